//! The malloc peer with the C library's malloc as the allocator of the whole process.

#![forbid(unsafe_code)]

#[global_allocator]
static ALLOCATOR: std::alloc::System = std::alloc::System;

fn main() -> std::process::ExitCode {
    testkit::peer::main()
}
