//! The machine's own noise: the bare codec measured against itself, in turns, as every other pair
//! in the report is.
//!
//! Both sides do the same, so any ratio but 1 is the machine's. No row can be judged more finely
//! than that.

use std::time::Instant;

use testkit::Page;
use zcomp::{Algorithm, Stream};

use crate::codec;
use crate::context::Context;
use crate::samples::{Interval, Samples};

/// Turns taken before the rows, and again after them.
const TURNS: usize = 15;

/// Pages compressed in a turn.
const PAGES: usize = 16_384;

/// Beyond this a run is not worth quoting.
const TOLERABLE: f64 = 0.05;

/// The codec's speed over its own speed. Empty before it was measured.
#[derive(Clone, Debug, Default)]
pub struct Noise(Samples);

impl Noise {
    /// Measures some turns more.
    pub fn measure(&mut self, context: &Context) -> Result<(), Box<dyn std::error::Error>> {
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

    /// Returns noise that was measured elsewhere.
    #[cfg(test)]
    pub fn of(samples: Samples) -> Self {
        Self(samples)
    }

    /// Returns the samples.
    pub fn samples(&self) -> &Samples {
        &self.0
    }

    /// Returns the interval that a timed ratio may be off by without anything being different; that
    /// of silence when nothing was measured.
    pub fn interval(&self) -> Interval {
        let silence = Interval { low: 1.0, high: 1.0, confidence: 1.0 };
        self.0.interval().map_or(silence, |found| Interval {
            low: found.low.min(1.0 / found.high),
            high: found.high.max(1.0 / found.low),
            ..found
        })
    }

    /// Returns what stands above the table.
    pub fn lines(&self) -> Vec<String> {
        let Interval { low, high, .. } = self.interval();
        let mut lines = vec![format!(
            "noise of this machine: the bare codec against itself, {} turns before and after the rows: {:.3} [{low:.3}-{high:.3}]; \
             no time is judged more finely",
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
