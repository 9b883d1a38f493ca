//! The malloc peer with mimalloc as the allocator of the whole process.

#![forbid(unsafe_code)]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    testkit::peer::main()
}
