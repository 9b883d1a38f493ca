//! Units of measured numbers.

/// The unit of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Operations a second.
    Rate,
    /// Bytes, shown in MiB.
    Bytes,
    /// Seconds, shown in microseconds.
    Seconds,
    /// A plain number between 0 and about 1.
    Share,
    /// A number of items.
    Count,
}

impl Unit {
    /// Returns the name for JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "operations per second",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
            Self::Share => "share",
            Self::Count => "count",
        }
    }

    /// Returns whether the number depends on the load of the machine.
    pub(crate) fn is_timed(self) -> bool {
        matches!(self, Self::Rate | Self::Seconds)
    }

    /// Returns the number as text without its unit.
    pub(crate) fn bare(self, value: f64) -> String {
        match self {
            Self::Rate => format!("{:.1}", value / 1e3),
            Self::Bytes => format!("{:.1}", value / f64::from(1 << 20)),
            Self::Seconds => format!("{:.1}", value * 1e6),
            Self::Share => format!("{value:.4}"),
            Self::Count => format!("{value:.0}"),
        }
    }

    /// Returns the number as text with its unit.
    pub(crate) fn text(self, value: f64) -> String {
        let suffix = match self {
            Self::Rate => " k/s",
            Self::Bytes => " MiB",
            Self::Seconds => " us",
            Self::Share | Self::Count => "",
        };
        self.bare(value) + suffix
    }
}
