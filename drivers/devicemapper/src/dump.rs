//! What `thin_dump` writes, understood as far as it says which blocks of the data device somebody has.

use crate::error::{Error, Result};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::io::BufRead;

/// Blocks of the data device that thin devices map, each once however many share it.
///
/// # Errors
/// [`Error::Output`] for anything but a whole answer, and for blocks that a pool of `total` does not have.
pub fn mapped_blocks(xml: impl BufRead, total: u64) -> Result<u64> {
    let mut reader = Reader::from_reader(xml);
    let words = usize::try_from(total.div_ceil(64)).map_err(|error| output(error.to_string()))?;
    let (mut seen, mut count, mut whole) = (vec![0u64; words], 0, false);
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let (begin, length) =
            match reader.read_event_into(&mut buffer).map_err(|error| output(error.to_string()))? {
                Event::Start(element) | Event::Empty(element) => match element.name().as_ref() {
                    "single_mapping" => (number(&element, "data_block")?, 1),
                    "range_mapping" => (number(&element, "data_begin")?, number(&element, "length")?),
                    _ => continue,
                },
                Event::End(element) if element.name().as_ref() == "superblock" => {
                    whole = true;
                    continue;
                }
                Event::Eof if whole => return Ok(count),
                Event::Eof => return Err(output("it ended before </superblock>".to_owned())),
                _ => continue,
            };
        let end = begin.checked_add(length).filter(|end| *end <= total);
        let end = end.ok_or_else(|| output(format!("blocks {begin}+{length} of a pool of {total}")))?;
        for block in begin..end {
            let bit = 1 << (block % 64);
            let word = usize::try_from(block / 64).ok().and_then(|word| seen.get_mut(word));
            if let Some(word) = word.filter(|word| **word & bit == 0) {
                *word |= bit;
                count += 1;
            }
        }
    }
}

fn number(element: &BytesStart<'_>, name: &str) -> Result<u64> {
    let attribute = element.try_get_attribute(name).map_err(|error| output(error.to_string()))?;
    let attribute = attribute.ok_or_else(|| output(format!("an element without {name}")))?;
    let text = attribute.value.as_ref();
    text.parse().map_err(|_| output(format!("expected a number as {name}, found {text:?}")))
}

fn output(reason: String) -> Error {
    Error::Output { tool: "thin_dump", reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Written by thin_dump 0.9.0, two devices that share blocks.
    const SEEN: &str = r#"<superblock uuid="" time="1" transaction="0" flags="0" version="2" data_block_size="128" nr_data_blocks="1024">
  <device dev_id="1" mapped_blocks="4" transaction="0" creation_time="0" snap_time="1">
    <single_mapping origin_block="0" data_block="0" time="0"/>
    <range_mapping origin_begin="5" data_begin="7" length="3" time="0"/>
  </device>
  <device dev_id="2" mapped_blocks="2" transaction="0" creation_time="1" snap_time="1">
    <single_mapping origin_block="0" data_block="0" time="0"/>
    <single_mapping origin_block="5" data_block="12" time="1"/>
  </device>
</superblock>
"#;

    #[test]
    fn a_block_counts_once() {
        assert_eq!(mapped_blocks(SEEN.as_bytes(), 1024).unwrap(), 5);
        assert_eq!(mapped_blocks("<superblock></superblock>".as_bytes(), 0).unwrap(), 0);
    }

    #[test]
    fn a_part_of_an_answer_is_no_answer() {
        for cut in 0..SEEN.find("</superblock>").unwrap() + 12 {
            assert!(mapped_blocks(&SEEN.as_bytes()[..cut], 1024).is_err(), "{cut}");
        }
        assert!(mapped_blocks(SEEN.as_bytes(), 12).is_err());
        assert!(mapped_blocks(SEEN.replace("length=\"3\"", "length=\"x\"").as_bytes(), 1024).is_err());
        assert!(mapped_blocks(SEEN.replace("data_begin=\"7\" ", "").as_bytes(), 1024).is_err());
    }

    proptest! {
        #[test]
        fn any_ranges_are_counted_as_a_set_counts_them(
            ranges in proptest::collection::vec((0u64..200, 1u64..60), 0..20)
        ) {
            let lines: String = ranges
                .iter()
                .map(|(begin, length)| {
                    format!("<range_mapping origin_begin=\"0\" data_begin=\"{begin}\" length=\"{length}\" \
                        time=\"0\"/>")
                })
                .collect();
            let xml = format!("<superblock><device>{lines}</device></superblock>");
            let set: std::collections::BTreeSet<u64> =
                ranges.iter().flat_map(|(begin, length)| *begin..begin + length).collect();
            prop_assert_eq!(mapped_blocks(xml.as_bytes(), 300).unwrap(), set.len() as u64);
        }
    }
}
