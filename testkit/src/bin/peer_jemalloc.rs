//! The malloc peer with jemalloc as the allocator of the whole process.

#![forbid(unsafe_code)]

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    testkit::peer::main()
}
