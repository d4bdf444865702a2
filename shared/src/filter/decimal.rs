//! Decimals, compared as they are written.
//!
//! A price of 0.1 or a number of twenty digits has no exact `f64`, and two that differ could be
//! taken for equal. Comparing digits is exact at any length, and needs no memory.

use std::cmp::Ordering;

/// A decimal: a sign or none, digits, and perhaps a point with digits behind it. Neither exponents
/// nor white space, infinities, or a point with nothing on one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal<'a> {
    /// Never set for zero.
    negative: bool,
    /// Without leading zeros; empty below 1.
    whole: &'a str,
    /// Without trailing zeros; empty if there is none.
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    /// Reads a decimal, or says that it is none.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Self {
            negative: text.starts_with('-') && !is_zero,
            whole,
            fraction,
        })
    }

    /// Compares without the sign. Of whole parts the longer is greater; digits of a fraction count
    /// from the point on.
    fn cmp_magnitude(&self, other: &Self) -> Ordering {
        let lengths = self.whole.len().cmp(&other.whole.len());
        lengths
            .then_with(|| self.whole.cmp(other.whole))
            .then_with(|| self.fraction.cmp(other.fraction))
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.cmp_magnitude(other),
            (true, true) => other.cmp_magnitude(self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_are_ordered_by_value() {
        // Each is less than the next; those of one row are equal.
        let ascending: [&[&str]; 13] = [
            &["-100"],
            &["-20.5", "-020.50"],
            &["-20"],
            &["-0.2"],
            &["-0.15"],
            &["0", "-0", "+0", "00.00", "-0.0"],
            &["0.0000000000000000000000000000000001"],
            &["0.1", "0.10", "+0.1", "00.1"],
            &["1.09"],
            &["1.1", "1.10", "01.1", "+1.100"],
            &["9"],
            &["10", "10.0", "+0010"],
            &["9007199254740993"],
        ];
        for (place, row) in ascending.iter().enumerate() {
            for (other_place, other_row) in ascending.iter().enumerate() {
                for (a, b) in row
                    .iter()
                    .flat_map(|a| other_row.iter().map(move |b| (a, b)))
                {
                    let ordering = Decimal::parse(a).cmp(&Decimal::parse(b));
                    assert_eq!(ordering, place.cmp(&other_place), "{a} {b}");
                }
            }
        }
    }

    #[test]
    fn digits_that_a_float_would_round_away_count() {
        let parse = |text| Decimal::parse(text).unwrap();
        assert!(parse("9007199254740993") > parse("9007199254740992"));
        assert!(parse("0.30000000000000000001") > parse("0.3"));
        assert_eq!(parse("0.3"), parse("0.30"));
    }

    #[test]
    fn what_is_no_plain_decimal_is_none() {
        let others = [
            "", "+", "-", ".", "1.", ".1", "1.2.3", "1e3", "1E3", "0x10", "inf", "NaN", " 1", "1 ",
            "1,5", "--1", "+-1", "1-", "1_000", "١", "1.+1", "1.-",
        ];
        for text in others {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn integers_are_ordered_as_integers(a in any::<i64>(), b in any::<i64>()) {
            let (text_a, text_b) = (a.to_string(), b.to_string());
            let parsed = (Decimal::parse(&text_a).unwrap(), Decimal::parse(&text_b).unwrap());
            prop_assert_eq!(parsed.0.cmp(&parsed.1), a.cmp(&b));
        }

        #[test]
        fn no_text_makes_it_panic(a in "[-+.0-9e ]{0,12}|.*", b in "[-+.0-9]{0,12}") {
            let (a, b) = (Decimal::parse(&a), Decimal::parse(&b));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a == b, a.cmp(&b).is_eq());
        }
    }
}
