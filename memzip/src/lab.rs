//! `memzip lab`: the experiments of the original series, in this process, on pages of real files.
//!
//! | | what | original figures |
//! |---|---|---|
//! | e1 | object compaction after random discards | [`original::e1_ratios`] |
//! | e2 | a little ageing, both compactions | [`original::E2`] |
//! | e3 | frame compaction after parallel writes | [`original::E3_OLD`], [`original::E3_NEW`] |
//! | e4 | costs of handles, metadata and class locks | not published |
//! | e5 | contiguous allocation among scattered zspages | not published |
//!
//! E-3 and E-5 run with movable and with unmovable frames.
//!
//! Everything is measured in the run that prints it. The remaining content of the disks is read
//! back and compared before anything is printed.

mod choice;
mod free;
mod original;
mod pages;
mod cache;
mod disk;
mod writers;
mod scarce;
mod table;
mod input;
mod e1;
mod e2;
mod e3;
mod e4;
mod e5;

use anyhow::Result;

use crate::cli::{self, Experiment};
use input::Lab;
use table::Report;

/// Runs one experiment and returns its report as text to print.
///
/// # Errors
/// The experiment cannot run, or a byte did not match.
pub(crate) fn run(args: &cli::Lab) -> Result<String> {
    let lab = Lab::load(args)?;
    let report = match args.experiment {
        Experiment::E1 => e1::run(&lab),
        Experiment::E2 => e2::run(&lab),
        Experiment::E3 => e3::run(&lab),
        Experiment::E4 => e4::run(&lab),
        Experiment::E5 => e5::run(&lab),
    };
    args.format.render(&report?, Report::to_string)
}
