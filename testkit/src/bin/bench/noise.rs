//! The noise of the machine: the bare codec measured against itself, in turns like all pairs of
//! the
//! report.
//!
//! Both sides run the same code, so a ratio other than 1 is noise. No timed row is judged more
//! finely.

use std::time::Instant;

use testkit::Page;
use zcomp::{Algorithm, Stream};

use crate::codec;
use crate::context::Context;
use crate::samples::{Interval, Samples};

/// Turns before the rows, and again after them.
const TURNS: usize = 15;

/// Pages compressed in a turn.
const PAGES: usize = 16_384;

/// Largest noise of a run whose times may be quoted.
const TOLERABLE: f64 = 0.05;

/// Ratios of the codec's speed to its own speed. Empty until measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noise(Samples);

impl Noise {
    /// Measures another series of turns.
    pub(crate) fn measure(&mut self, context: &Context) -> Result<(), Box<dyn std::error::Error>> {
        let pages = &context.mixed[..PAGES.min(context.mixed.len())];
        let mut stream = Stream::new(Algorithm::Lz4 { acceleration: 1 })?;
        let mut rate = |pages: &[Page]| -> Result<f64, Box<dyn std::error::Error>> {
            let start = Instant::now();
            codec::compress(&mut stream, pages.iter())?;
            Ok(pages.len() as f64 / start.elapsed().as_secs_f64())
        };
        rate(pages)?;
        for _ in 0..context.repetitions(TURNS) {
            let (once, again) = (rate(pages)?, rate(pages)?);
            self.0.push(once / again);
        }
        Ok(())
    }

    /// Creates noise from given samples.
    #[cfg(test)]
    pub(crate) fn of(samples: Samples) -> Self {
        Self(samples)
    }

    /// Returns the samples.
    pub(crate) fn samples(&self) -> &Samples {
        &self.0
    }

    /// Returns the interval of a timed ratio between equal programs; 1 to 1 when nothing was
    /// measured.
    pub(crate) fn interval(&self) -> Interval {
        let exact = Interval { low: 1.0, high: 1.0, confidence: 1.0 };
        self.0.interval().map_or(exact, |found| Interval {
            low: found.low.min(1.0 / found.high),
            high: found.high.max(1.0 / found.low),
            ..found
        })
    }

    /// Returns the lines above the table.
    pub(crate) fn lines(&self) -> Vec<String> {
        let Interval { low, high, .. } = self.interval();
        let mut lines = vec![format!(
            "noise of this machine: the bare codec against itself, {} turns before and after the rows: {:.3} [{low:.3}-{high:.3}]; \
             no time is judged more precisely",
            self.0.len(),
            self.0.median(),
        )];
        if high - 1.0 > TOLERABLE {
            lines.push(
                "THIS MACHINE WAS TOO NOISY: do not quote times and rates of this run".into(),
            );
        }
        lines
    }
}
