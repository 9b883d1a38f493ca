//! Which requests to send.

use std::sync::Arc;
use std::time::Instant;

use super::wire::Command;
use crate::Rng;

/// What a load does to the disk.
#[derive(Clone, Debug)]
pub enum Workload {
    /// Reads of random pages until the time is over.
    RandomReads,
    /// Writes of random corpus pages to random pages of the disk until the time is over.
    RandomWrites,
    /// Page `n` of the corpus to page `n` of the disk, whole disk, in large requests.
    Fill,
    /// Every page of the disk once, in random order, each with another page of the corpus, none of which is used twice: after it the
    /// disk holds what it held, in other places.
    Overwrite,
    /// The whole disk in order, in large requests.
    ReadAll,
    /// The whole disk is discarded.
    TrimAll,
    /// These pages are discarded one by one, in this order.
    Trim(Arc<[u32]>),
}

/// One request to come: what, where, and for writes the first corpus page.
#[derive(Clone, Copy, Debug)]
pub struct PlannedRequest {
    pub command: Command,
    pub page: u32,
    pub count: u32,
    pub source: u32,
}

/// Pages a large request covers: 128 KiB, what the kernel's own clients send.
const LARGE_REQUEST_PAGES: u32 = 32;

/// Pages a discard covers: 32 MiB.
const DISCARD_PAGES: u32 = 8192;

/// The requests of one connection. Connections share the work so that no page is written by two of them.
pub struct Plan {
    work: Workload,
    rng: Rng,
    disk: u32,
    corpus: u32,
    part: u32,
    parts: u32,
    next: u32,
    order: Vec<u32>,
    sources: Vec<u32>,
    end: Option<Instant>,
}

impl Plan {
    /// Connection `part` of `parts`. `end` bounds the random works only.
    pub fn new(
        work: Workload,
        seed: u64,
        disk: u32,
        corpus: u32,
        part: u32,
        parts: u32,
        end: Instant,
    ) -> Self {
        let random = matches!(work, Workload::RandomReads | Workload::RandomWrites);
        // Every connection makes the same permutation and takes its share of it.
        let (order, sources) = match work {
            Workload::Overwrite => {
                (Rng::new(seed).permutation(disk), Rng::new(!seed).permutation(corpus))
            }
            _ => (Vec::new(), Vec::new()),
        };
        let rng = Rng::new(seed.wrapping_add(1 + u64::from(part)));
        Self {
            work,
            rng,
            disk,
            corpus,
            part,
            parts,
            next: part,
            order,
            sources,
            end: random.then_some(end),
        }
    }

    /// The most pages one request of this plan reads. Units: pages.
    pub fn largest_read(&self) -> usize {
        if matches!(self.work, Workload::ReadAll) { LARGE_REQUEST_PAGES as usize } else { 1 }
    }

    /// Whether the time is over as of `now`.
    pub fn is_over(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| now >= end)
    }

    /// The next request; `None` when there is none left.
    pub fn next_request(&mut self) -> Option<PlannedRequest> {
        match self.work {
            Workload::RandomReads => Some(PlannedRequest {
                command: Command::Read,
                page: self.rng.below(self.disk),
                count: 1,
                source: 0,
            }),
            Workload::RandomWrites => Some(self.random_write()),
            Workload::Overwrite => {
                let page = *self.order.get(self.next as usize)?;
                self.next += self.parts;
                let source = self.sources[page as usize % self.sources.len()];
                Some(PlannedRequest { command: Command::Write, page, count: 1, source })
            }
            Workload::Fill => self.chunk(Command::Write, LARGE_REQUEST_PAGES),
            Workload::ReadAll => self.chunk(Command::Read, LARGE_REQUEST_PAGES),
            Workload::TrimAll => self.chunk(Command::Trim, DISCARD_PAGES),
            Workload::Trim(ref pages) => {
                let page = *pages.get(self.next as usize)?;
                self.next += self.parts;
                Some(PlannedRequest { command: Command::Trim, page, count: 1, source: 0 })
            }
        }
    }

    /// A page of our own share: `part` modulo `parts`.
    fn random_write(&mut self) -> PlannedRequest {
        let share = (self.disk - self.part).div_ceil(self.parts);
        let page = self.rng.below(share) * self.parts + self.part;
        PlannedRequest {
            command: Command::Write,
            page,
            count: 1,
            source: self.rng.below(self.corpus),
        }
    }

    /// Chunk number `next`, then every `parts`-th.
    fn chunk(&mut self, command: Command, len: u32) -> Option<PlannedRequest> {
        let page = self.next.checked_mul(len).filter(|&page| page < self.disk)?;
        self.next += self.parts;
        let count = len.min(self.disk - page);
        Some(PlannedRequest { command, page, count, source: page % self.corpus })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(work: Workload, disk: u32, parts: u32) -> Vec<u32> {
        let plans = (0..parts)
            .map(|part| Plan::new(work.clone(), 1, disk, disk, part, parts, Instant::now()));
        let steps = plans.flat_map(|mut plan| std::iter::from_fn(move || plan.next_request()));
        let mut pages: Vec<u32> =
            steps.flat_map(|step| step.page..step.page + step.count).collect();
        pages.sort_unstable();
        pages
    }

    #[test]
    fn whole_disk_works_touch_every_page_once_on_any_number_of_connections() {
        for parts in 1..=3 {
            let backwards = Workload::Trim((0..10_000).rev().collect());
            for work in [
                Workload::Fill,
                Workload::ReadAll,
                Workload::TrimAll,
                Workload::Overwrite,
                backwards,
            ] {
                assert!(pages(work, 10_000, parts).into_iter().eq(0..10_000));
            }
        }
    }

    #[test]
    fn random_writes_of_two_connections_never_meet() {
        for part in 0..2 {
            let mut plan = Plan::new(Workload::RandomWrites, 1, 101, 7, part, 2, Instant::now());
            for _ in 0..1000 {
                let step = plan.next_request().expect("random work has no end of its own");
                assert!(step.page % 2 == part && step.page < 101 && step.source < 7);
            }
        }
    }
}
