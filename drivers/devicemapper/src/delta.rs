//! What `thin_delta` writes, understood: which blocks of a thin device hold data, or differ from another's.

use crate::error::{Error, Result};
use convoy_driver_sdk::mapping::Ranges;
use convoy_driver_sdk::protocol::Extent;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::io::BufRead;

/// Which answer is wanted of a comparison of an older with a newer device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Everything in use in the newer one. It is compared with itself.
    InUse,
    /// What differs in the newer one.
    Changed,
}

/// The element in which the ranges are.
const DIFF: &str = "diff";

/// Reads the XML. Ranges are multiplied by the block size and cut at the device's `size` in bytes: the pool
/// may still hold blocks behind the end of a device that once was larger.
///
/// # Errors
/// [`Error::Output`] for anything but a whole, sorted answer of `thin_delta`: never a part of the truth.
pub fn parse(xml: impl BufRead, wanted: Comparison, block_bytes: u64, size: u64) -> Result<Ranges> {
    let mut reader = Reader::from_reader(xml);
    let mut delta = Ranges::default();
    let (mut end, mut inside, mut whole) = (0, false, false);
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer).map_err(|error| output(error.to_string()))? {
            Event::Start(element) if element.name().as_ref() == DIFF => inside = true,
            Event::End(element) if element.name().as_ref() == DIFF => (inside, whole) = (false, true),
            Event::Start(element) | Event::Empty(element) if inside => {
                let (begin, length) = range(&element)?;
                if begin < end || length == 0 {
                    return Err(output(format!(
                        "expected ranges in order, found {begin}+{length} after {end}"
                    )));
                }
                end = begin.checked_add(length).ok_or_else(|| output("a range without end".to_owned()))?;
                let bytes = |blocks: u64| {
                    blocks.checked_mul(block_bytes).ok_or_else(|| output("a range too far out".to_owned()))
                };
                let (from, to) = (bytes(begin)?, bytes(end)?.min(size));
                add(&mut delta, element.name().as_ref(), wanted, from, to)?;
            }
            Event::Eof if whole => return Ok(delta),
            Event::Eof => return Err(output("it ended before </diff>".to_owned())),
            _ => {}
        }
    }
}

fn add(delta: &mut Ranges, kind: &str, wanted: Comparison, from: u64, to: u64) -> Result<()> {
    let ranges = match (kind, wanted) {
        ("same", Comparison::InUse) | ("different" | "right_only", _) => &mut delta.extents,
        ("left_only", Comparison::Changed) => &mut delta.discarded,
        ("same", Comparison::Changed) | ("left_only", Comparison::InUse) => return Ok(()),
        _ => return Err(output(format!("an unknown element {:?}", kind))),
    };
    if from >= to {
        return Ok(());
    }
    match ranges.last_mut() {
        Some(last) if last.offset + last.length == from => last.length = to - last.offset,
        _ => ranges.push(Extent { offset: from, length: to - from }),
    }
    Ok(())
}

/// `begin="5" length="3"`, in blocks.
fn range(element: &BytesStart<'_>) -> Result<(u64, u64)> {
    let number = |name: &str| {
        let attribute = element
            .try_get_attribute(name)
            .map_err(|error| output(error.to_string()))?
            .ok_or_else(|| output(format!("an element without {name}")))?;
        let text = attribute.value.as_ref();
        text.parse::<u64>().map_err(|_| output(format!("expected a number as {name}, found {text:?}")))
    };
    Ok((number("begin")?, number("length")?))
}

fn output(reason: String) -> Error {
    Error::Output { tool: "thin_delta", reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: u64 = 2 << 20;

    /// Written by thin_delta 0.9.0.
    const SEEN: &str = r#"<superblock uuid="" time="2" transaction="0" data_block_size="4096" nr_data_blocks="0">
  <diff left="2" right="3">
    <different begin="0" length="1"/>
    <different begin="2" length="1"/>
    <same begin="4" length="1"/>
    <left_only begin="5" length="3"/>
    <different begin="8" length="1"/>
    <same begin="9" length="2"/>
    <right_only begin="13" length="4"/>
    <left_only begin="31" length="1"/>
  </diff>
</superblock>
"#;

    fn parse(xml: &str, wanted: Comparison) -> Result<Ranges> {
        super::parse(xml.as_bytes(), wanted, BLOCK, 64 << 20)
    }

    fn blocks(extents: &[Extent]) -> Vec<(u64, u64)> {
        extents.iter().map(|extent| (extent.offset / BLOCK, extent.length / BLOCK)).collect()
    }

    #[test]
    fn changed_in_use_and_discarded() {
        let changed = parse(SEEN, Comparison::Changed).unwrap();
        assert_eq!(blocks(&changed.extents), [(0, 1), (2, 1), (8, 1), (13, 4)]);
        assert_eq!(blocks(&changed.discarded), [(5, 3), (31, 1)]);
        let used = parse(SEEN, Comparison::InUse).unwrap();
        assert_eq!(blocks(&used.extents), [(0, 1), (2, 1), (4, 1), (8, 3), (13, 4)]);
        assert!(used.discarded.is_empty());
        let cut = super::parse(SEEN.as_bytes(), Comparison::Changed, BLOCK, 31 << 20).unwrap();
        assert_eq!(cut.extents.last(), Some(&Extent { offset: 13 * BLOCK, length: 5 << 20 }));
        assert_eq!(blocks(&cut.discarded), [(5, 3)]);
    }

    #[test]
    fn a_device_without_blocks_has_no_extents() {
        let xml = "<superblock><diff left=\"2\" right=\"2\">\n</diff></superblock>";
        assert_eq!(parse(xml, Comparison::InUse).unwrap(), Ranges::default());
    }

    #[test]
    fn a_part_of_an_answer_is_no_answer() {
        for cut in 0..SEEN.find("</diff>").unwrap() + 6 {
            assert!(parse(&SEEN[..cut], Comparison::Changed).is_err(), "{cut}");
        }
        for (from, to) in [
            ("begin=\"8\"", "begin=\"1\""),
            ("length=\"4\"", "length=\"18446744073709551615\""),
            ("length=\"4\"", "length=\"0\""),
            ("length=\"4\"", "len=\"4\""),
            ("begin=\"13\"", "begin=\"x\""),
            ("right_only", "damaged"),
        ] {
            assert!(parse(&SEEN.replace(from, to), Comparison::Changed).is_err(), "{to}");
        }
    }

    /// One kind for every block of a device: what the ranges must say again.
    fn xml_of(kinds: &[u8]) -> String {
        let names = ["", "same", "different", "left_only", "right_only"];
        let ranges = kinds.iter().enumerate().filter(|(_, kind)| **kind > 0);
        let lines = ranges
            .map(|(block, kind)| format!("<{} begin=\"{block}\" length=\"1\"/>", names[usize::from(*kind)]));
        format!("<superblock><diff left=\"1\" right=\"2\">{}</diff></superblock>", lines.collect::<String>())
    }

    proptest! {
        #[test]
        fn every_block_is_told_once(kinds in proptest::collection::vec(0u8..5, 0..80)) {
            let size = kinds.len() as u64 * BLOCK;
            let delta = super::parse(xml_of(&kinds).as_bytes(), Comparison::Changed, BLOCK, size).unwrap();
            for (block, kind) in kinds.iter().enumerate() {
                let at = block as u64 * BLOCK;
                let within = |extents: &[Extent]| {
                    extents.iter().filter(|e| e.offset <= at && at < e.offset + e.length).count()
                };
                prop_assert_eq!(within(&delta.extents), usize::from(matches!(kind, 2 | 4)));
                prop_assert_eq!(within(&delta.discarded), usize::from(*kind == 3));
            }
            for ranges in [&delta.extents, &delta.discarded] {
                prop_assert!(ranges.windows(2).all(|pair| pair[0].offset + pair[0].length < pair[1].offset));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[ -~\n]{0,200}") {
            let _ = parse(&text, Comparison::Changed);
        }
    }
}
