//! Sizes as users write them: bytes, or digits with K, M, G or T (either case, powers of 1024).

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSize {
    /// Something beside digits and one unit letter.
    #[error("invalid size {0:?}: expected bytes, or a whole number followed by K, M, G or T (10G)")]
    Malformed(String),
    /// More than 2^63-1 bytes, which no file or device can have.
    #[error("invalid size {0:?}: more than the 9223372036854775807 bytes a device can have")]
    TooLarge(String),
}

/// Parses a size in bytes.
///
/// ```
/// assert_eq!(convoy_driver_sdk::size::parse("10G"), Ok(10 << 30));
/// assert!(convoy_driver_sdk::size::parse("10GB").is_err());
/// ```
pub fn parse(text: &str) -> Result<u64, InvalidSize> {
    let malformed = || InvalidSize::Malformed(text.to_owned());
    let (digits, shift) = match text.bytes().last().ok_or_else(malformed)?.to_ascii_uppercase() {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        b'T' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed());
    }
    let too_large = || InvalidSize::TooLarge(text.to_owned());
    let bytes =
        digits.parse::<u64>().map_err(|_| too_large())?.checked_mul(1 << shift).ok_or_else(too_large)?;
    if i64::try_from(bytes).is_err() { Err(too_large()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024_in_either_case() {
        for (text, bytes) in
            [("0", 0), ("512", 512), ("1k", 1 << 10), ("64M", 64 << 20), ("10g", 10 << 30), ("2T", 2 << 40)]
        {
            assert_eq!(parse(text), Ok(bytes));
        }
    }

    #[test]
    fn nonsense_and_overflow_are_told_apart() {
        for bad in ["", "G", "ten", "1.5G", "-1", "+1", " 1", "1 G", "10GB", "1KG", "ä"] {
            assert_eq!(parse(bad), Err(InvalidSize::Malformed(bad.to_owned())), "{bad:?}");
        }
        for bad in ["99999999999999999999", "9223372036854775808", "8388608T", "20000000T"] {
            assert_eq!(parse(bad), Err(InvalidSize::TooLarge(bad.to_owned())), "{bad:?}");
        }
    }
}
