//! Options about what moves memory by itself, as they are written on the command line.

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
    /// It follows memory pressure.
    Auto,
    /// It has one size.
    Size(Size),
}

/// `--balloon-pressure HIGH:LOW`, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PressureThresholds {
    /// It grows above this.
    high: u16,
    /// It shrinks below this.
    low: u16,
}

/// `--compact-background CPU%|off`: the most of one CPU, in percent.
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

/// Why a text says nothing about the balloon.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a balloon is \"auto\" or a size, and without the option there is none: {0}")]
pub(crate) struct BalloonError(#[from] SizeError);

/// Why a text is no pair of thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("two whole percentages, the higher first: 10:1 grows above 10 % and shrinks below 1 %")]
pub(crate) struct PressureThresholdsError;

/// Why a text says nothing about compaction in the background.
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
    /// On, with a tenth of one CPU at most: the memory stays packed while clients overwrite, and they are left nearly all of the machine.
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
