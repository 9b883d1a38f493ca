//! Options of maintenance, as written on the command line: balloon, compaction, movability.

use std::fmt;
use std::str::FromStr;

use balloon::policy::Settings;
use clap::ValueEnum;
use sys::host::Share;
use thiserror::Error;
use zram::Movability;

use crate::control::balloon_json::BalloonTarget;
use crate::sizes::{Size, SizeError};

/// `--balloon auto|SIZE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Balloon {
    /// The balloon follows memory pressure.
    Auto,
    /// The balloon has a fixed size.
    Size(Size),
}

/// `--balloon-pressure HIGH:LOW`, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PressureThresholds {
    /// The balloon inflates above this.
    high: u16,
    /// The balloon deflates below this.
    low: u16,
}

/// `--compact-background CPU%|off`: the limit in percent of one CPU; `None` is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Background(pub(crate) Option<u8>);

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// Error of a text that is not a balloon.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a balloon is \"auto\" or a size; leave the option out for no balloon: {0}")]
pub(crate) struct BalloonError(#[from] SizeError);

/// Error of a text that is not a pair of thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("thresholds are HIGH:LOW, whole percentages up to 100 with HIGH above LOW, such as 10:1")]
pub(crate) struct PressureThresholdsError;

/// Error of a text that is not a share of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the share of a CPU is a whole number from 1 to 100, or \"off\"")]
pub(crate) struct BackgroundError;

impl FromStr for Balloon {
    type Err = BalloonError;

    fn from_str(text: &str) -> Result<Self, BalloonError> {
        if text == "auto" { Ok(Self::Auto) } else { Ok(Self::Size(text.parse()?)) }
    }
}

impl From<Balloon> for BalloonTarget {
    fn from(balloon: Balloon) -> Self {
        match balloon {
            Balloon::Auto => Self::Auto,
            Balloon::Size(size) => Self::Bytes(size.0),
        }
    }
}

impl FromStr for PressureThresholds {
    type Err = PressureThresholdsError;

    fn from_str(text: &str) -> Result<Self, PressureThresholdsError> {
        let (high, low) = text.split_once(':').ok_or(PressureThresholdsError)?;
        let percent = |text: &str| text.parse().ok().filter(|percent| *percent <= 100);
        let (high, low) = percent(high)
            .zip(percent(low))
            .filter(|(high, low)| high > low)
            .ok_or(PressureThresholdsError)?;
        Ok(Self { high, low })
    }
}

impl From<PressureThresholds> for Settings {
    fn from(thresholds: PressureThresholds) -> Self {
        Self {
            raise_above: Share::percent(thresholds.high),
            lower_below: Share::percent(thresholds.low),
            ..Self::default()
        }
    }
}

impl Default for Background {
    /// Returns 10 % of one CPU: memory stays packed while clients overwrite, and they keep nearly
    /// all of the machine.
    fn default() -> Self {
        Self(Some(10))
    }
}

impl FromStr for Background {
    type Err = BackgroundError;

    fn from_str(text: &str) -> Result<Self, BackgroundError> {
        if text == "off" {
            return Ok(Self(None));
        }
        let percent = text.strip_suffix('%').unwrap_or(text).parse().ok();
        percent
            .filter(|percent| (1..=100).contains(percent))
            .map(|percent| Self(Some(percent)))
            .ok_or(BackgroundError)
    }
}

impl fmt::Display for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(percent) => percent.fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl From<Switch> for Movability {
    fn from(switch: Switch) -> Self {
        match switch {
            Switch::On => Self::On,
            Switch::Off => Self::Off,
        }
    }
}
