//! The pool of the malloc comparison: the peers' loops over a zsmalloc pool.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    testkit::peer::pool()
}
