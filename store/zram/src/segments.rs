//! The split of a span into pages.

use std::ops::Range;

use block::Span;
use page::PAGE_SIZE;

/// The part of a request that lies in one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The page, which is also its slot.
    pub(crate) slot: usize,
    /// The bytes within the page.
    pub(crate) page_range: Range<usize>,
    /// The same bytes within the request's buffer.
    pub(crate) buf_range: Range<usize>,
}

/// Returns the segments of a span in order; none is empty.
pub(crate) fn segments(span: Span) -> impl Iterator<Item = Segment> {
    let mut at = span.offset();
    std::iter::from_fn(move || {
        let next = (at < span.end()).then(|| segment_at(span, at))?;
        at += next.page_range.len() as u64;
        Some(next)
    })
}

/// Returns the segment that begins at this offset of the device, inside the span.
fn segment_at(span: Span, at: u64) -> Segment {
    let inside = (at % PAGE_SIZE as u64) as usize;
    let len = (span.end() - at).min((PAGE_SIZE - inside) as u64) as usize;
    let from = (at - span.offset()) as usize;
    Segment {
        slot: (at / PAGE_SIZE as u64) as usize,
        page_range: inside..inside + len,
        buf_range: from..from + len,
    }
}

/// Returns the slots whose pages lie wholly inside the span. The last page ends with the device.
pub(crate) fn whole_slots(span: Span, size: u64) -> Range<usize> {
    let page = PAGE_SIZE as u64;
    let first = span.offset().div_ceil(page);
    let last = if span.end() == size { span.end().div_ceil(page) } else { span.end() / page };
    first as usize..last.max(first) as usize
}

/// Returns the segments of a span in pages that it covers in part: at most one at each end.
pub(crate) fn partial_segments(span: Span, size: u64) -> impl Iterator<Item = Segment> {
    let whole = whole_slots(span, size);
    let first = segments(span).next();
    let last = (!span.is_empty()).then(|| {
        let page = (span.end() - 1) / PAGE_SIZE as u64;
        segment_at(span, span.offset().max(page * PAGE_SIZE as u64))
    });
    // A span within one page has one segment, not two.
    let last = last.filter(|last| Some(last) != first.as_ref());
    first.into_iter().chain(last).filter(move |segment| !whole.contains(&segment.slot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::Bytes;

    fn span(offset: u64, len: u64) -> Span {
        Span::new(offset, len, Bytes(3 * 4096 + 100)).expect("inside")
    }

    #[test]
    fn a_span_is_cut_at_page_borders() {
        let cut: Vec<_> =
            segments(span(4000, 4400)).map(|p| (p.slot, p.page_range, p.buf_range)).collect();
        assert_eq!(cut, [(0, 4000..4096, 0..96), (1, 0..4096, 96..4192), (2, 0..208, 4192..4400)]);
        assert_eq!(segments(span(4096, 0)).count(), 0);
    }

    #[test]
    fn the_last_page_is_whole_if_the_span_reaches_the_end() {
        let size = 3 * 4096 + 100;
        assert_eq!(whole_slots(span(0, size), size), 0..4);
        assert_eq!(whole_slots(span(1, size - 1), size), 1..4);
        assert_eq!(whole_slots(span(1, 4096), size), 1..1);
        assert_eq!(whole_slots(span(12288, 99), size), 3..3);
        assert_eq!(whole_slots(span(12289, 99), size), 4..4);
    }

    #[test]
    fn partial_segments_are_those_outside_whole_pages() {
        let size = 3 * 4096 + 100;
        for offset in [0, 1, 4095, 4096, 5000, 12288, 12300] {
            for len in [0, 1, 95, 4095, 4096, 4097, 8000, 12000, 12388] {
                let Ok(span) = Span::new(offset, len, Bytes(size)) else { continue };
                let whole = whole_slots(span, size);
                let expected: Vec<_> =
                    segments(span).filter(|segment| !whole.contains(&segment.slot)).collect();
                assert_eq!(
                    partial_segments(span, size).collect::<Vec<_>>(),
                    expected,
                    "{len} bytes at {offset}"
                );
            }
        }
    }
}
