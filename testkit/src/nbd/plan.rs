//! The requests of a load.

use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;
use nbd_client::Command;

use crate::permutation;

/// The kind of requests that a load sends.
#[derive(Clone, Debug)]
pub enum Workload {
    /// Reads random pages until the time is over.
    RandomReads,
    /// Writes random corpus pages to random pages of the disk until the time is over.
    RandomWrites,
    /// Writes page `n` of the corpus to page `n` of the disk, the whole disk, in large requests.
    Fill,
    /// Writes every page of the disk once, in random order. Each gets another page of the corpus,
    /// and none is used twice, so the disk then holds the same pages in other places.
    Overwrite,
    /// Reads the whole disk in order, in large requests.
    ReadAll,
    /// Discards the whole disk.
    TrimAll,
    /// Discards these pages one by one, in this order.
    Trim(Arc<[u32]>),
}

/// A request to send: command, first page, number of pages, and for writes the first corpus page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlannedRequest {
    pub command: Command,
    pub page: u32,
    pub count: u32,
    pub source: u32,
}

/// Pages of a large request: 128 KiB, the size that the kernel's NBD client sends.
const LARGE_REQUEST_PAGES: u32 = 32;

/// Pages of a discard: 32 MiB.
const DISCARD_PAGES: u32 = 8192;

/// The requests of one connection. No page is written by two connections.
pub(crate) struct Plan {
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
    /// Creates the plan of connection `part` of `parts`. `end` limits the random workloads only.
    pub(crate) fn new(
        work: Workload,
        seed: u64,
        disk: u32,
        corpus: u32,
        part: u32,
        parts: u32,
        end: Instant,
    ) -> Self {
        let random = matches!(work, Workload::RandomReads | Workload::RandomWrites);
        // Every connection computes the same permutation and takes its share of it.
        let (order, sources) = match work {
            Workload::Overwrite => (permutation(disk, seed), permutation(corpus, !seed)),
            _ => (Vec::new(), Vec::new()),
        };
        let rng = Rng::with_seed(seed.wrapping_add(1 + u64::from(part)));
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

    /// Returns whether the time is over at `now`.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| now >= end)
    }

    /// Returns the next request, or `None` when the plan is done.
    pub(crate) fn next_request(&mut self) -> Option<PlannedRequest> {
        match self.work {
            Workload::RandomReads => Some(PlannedRequest {
                command: Command::Read,
                page: self.rng.u32(..self.disk),
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

    /// Returns a write to a random page of this connection's share: the pages equal to `part`
    /// modulo `parts`.
    fn random_write(&mut self) -> PlannedRequest {
        let share = (self.disk - self.part).div_ceil(self.parts);
        let page = self.rng.u32(..share) * self.parts + self.part;
        PlannedRequest {
            command: Command::Write,
            page,
            count: 1,
            source: self.rng.u32(..self.corpus),
        }
    }

    /// Returns a request for chunk number `next`, and advances by `parts` chunks.
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
    fn whole_disk_workloads_touch_every_page_once() {
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
    fn random_writes_of_two_connections_are_disjoint() {
        for part in 0..2 {
            let mut plan = Plan::new(Workload::RandomWrites, 1, 101, 7, part, 2, Instant::now());
            for _ in 0..1000 {
                let step = plan.next_request().expect("a random workload has no last request");
                assert!(step.page % 2 == part && step.page < 101 && step.source < 7);
            }
        }
    }
}
