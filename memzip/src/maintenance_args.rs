//! Options of maintenance, as written on the command line: balloon, compaction, movability.

use std::fmt;
use std::str::FromStr;

use balloon::policy::Settings;
use clap::ValueEnum;
use sys::host::Share;
use thiserror::Error;
use zram::Movability;

use crate::control::balloon_json::BalloonTarget;
use crate::sizes::Size;

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

/// Error of a text that is not a share of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the share of a CPU is a whole number from 1 to 100, or \"off\"")]
pub(crate) struct BackgroundError;

/// Parses `--balloon auto|SIZE`.
pub(crate) fn balloon(text: &str) -> Result<BalloonTarget, String> {
    if text == "auto" {
        return Ok(BalloonTarget::Auto);
    }
    text.parse::<Size>().map(|size| BalloonTarget::Bytes(size.0)).map_err(|error| {
        format!("a balloon is \"auto\" or a size; leave the option out for no balloon: {error}")
    })
}

/// Parses `--balloon-pressure HIGH:LOW`, in percent.
pub(crate) fn pressure_settings(text: &str) -> Result<Settings, &'static str> {
    let percent = |text: &str| text.parse().ok().filter(|percent| *percent <= 100);
    let thresholds = text.split_once(':').and_then(|(high, low)| percent(high).zip(percent(low)));
    match thresholds {
        Some((high, low)) if high > low => Ok(Settings {
            raise_above: Share::percent(high),
            lower_below: Share::percent(low),
            ..Settings::default()
        }),
        _ => Err(
            "thresholds are HIGH:LOW, whole percentages up to 100 with HIGH above LOW, such as 10:1",
        ),
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
