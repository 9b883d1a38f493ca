//! The malloc peer whose global allocator is the C library's malloc.

#![forbid(unsafe_code)]

#[global_allocator]
static ALLOCATOR: std::alloc::System = std::alloc::System;

fn main() -> std::process::ExitCode {
    testkit::peer::main()
}
