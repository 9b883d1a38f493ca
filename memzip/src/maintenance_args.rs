//! Options of maintenance, as written on the command line: balloon, compaction, movability.

use balloon::policy::Settings;
use sys::host::Share;
use zram::Movability;

use crate::control::change_json::BalloonTarget;
use crate::sizes;

/// `--compact-background CPU%|off`: the limit in percent of one CPU; `None` is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Background(pub(crate) Option<u8>);

/// Parses `--compact-background CPU%|off`.
pub(crate) fn background(text: &str) -> Result<Background, &'static str> {
    let percent: Option<u8> = text.strip_suffix('%').unwrap_or(text).parse().ok();
    match percent.filter(|percent| (1..=100).contains(percent)) {
        None if text != "off" => {
            Err("the share of a CPU is a whole number from 1 to 100, or \"off\"")
        }
        percent => Ok(Background(percent)),
    }
}

/// Parses `--movability on|off`.
pub(crate) fn movability(text: &str) -> Result<Movability, &'static str> {
    match text {
        "on" => Ok(Movability::On),
        "off" => Ok(Movability::Off),
        _ => Err("frames can be moved or not: \"on\" or \"off\""),
    }
}

/// Parses `--balloon auto|SIZE`.
pub(crate) fn balloon(text: &str) -> Result<BalloonTarget, String> {
    if text == "auto" {
        return Ok(BalloonTarget::Auto);
    }
    sizes::parse(text).map(|size| BalloonTarget::Bytes(size.0)).map_err(|error| {
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
