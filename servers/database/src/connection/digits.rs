//! The numbers in dates and decimals, written digit by digit: formatting takes several times as long, for every row.

/// The longest there is: a sign and the ten digits of a number.
const BYTES_MAX: usize = 12;

/// The numbers below a hundred, in two digits.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut value = 0;
    while value < pairs.len() {
        pairs[value] = [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8];
        value += 1;
    }
    pairs
};

/// Returns `2024-01-02`; nothing where a part has more digits.
pub(super) fn date(year: u32, month: u32, day: u32) -> Option<[u8; 10]> {
    let ([a, b], [c, d]) = (pair(year / 100)?, pair(year % 100)?);
    let ([e, f], [g, h]) = (pair(month)?, pair(day)?);
    Some([a, b, c, d, b'-', e, f, b'-', g, h])
}

/// Returns `03:04:05`; nothing where a part has more digits.
pub(super) fn time(hour: u32, minute: u32, second: u32) -> Option<[u8; 8]> {
    let ([a, b], [c, d], [e, f]) = (pair(hour)?, pair(minute)?, pair(second)?);
    Some([a, b, b':', c, d, b':', e, f])
}

fn pair(value: u32) -> Option<[u8; 2]> {
    PAIRS.get(value as usize).copied()
}

/// What is put together digit by digit: a part of a number.
pub(super) struct Digits {
    bytes: [u8; BYTES_MAX],
    length: usize,
}

impl Digits {
    /// Starts with nothing.
    pub(super) fn new() -> Self {
        Self { bytes: [b'0'; BYTES_MAX], length: 0 }
    }

    /// Adds a sign, which is ASCII.
    pub(super) fn sign(&mut self, sign: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = sign;
            self.length += 1;
        }
    }

    /// Adds `value` with at least as many digits as `width`, which is ten at most.
    pub(super) fn number(&mut self, value: u32, width: usize) {
        match (value, width) {
            (0..10, ..=1) => self.digit(value),
            (0..100, ..=2) => self.two(value),
            (0..10_000, 4) => self.four(value),
            _ => {
                let (rest, last) = (value / 10_000, value % 10_000);
                if rest > 0 || width > 4 {
                    self.number(rest, width.saturating_sub(4));
                    self.four(last);
                } else {
                    // Three or four of them.
                    if last >= 1_000 {
                        self.digit(last / 1_000);
                    }
                    self.digit(last / 100);
                    self.two(last);
                }
            }
        }
    }

    /// Appends what was added to `text`.
    pub(super) fn append_to(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(self.bytes.get(..self.length).unwrap_or_default());
    }

    fn digit(&mut self, value: u32) {
        self.sign(b'0' + (value % 10) as u8);
    }

    fn two(&mut self, value: u32) {
        let pair = pair(value % 100).unwrap_or_default();
        if let Some(place) = self.bytes.get_mut(self.length..self.length + pair.len()) {
            place.copy_from_slice(&pair);
            self.length += pair.len();
        }
    }

    fn four(&mut self, value: u32) {
        self.two(value / 100);
        self.two(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_written_where_their_parts_are_short() {
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert_eq!(text(date(2024, 1, 31).as_ref().map(<[u8; 10]>::as_slice)).as_deref(), Some("2024-01-31"));
        assert_eq!(text(date(9, 0, 99).as_ref().map(<[u8; 10]>::as_slice)).as_deref(), Some("0009-00-99"));
        assert_eq!(text(time(23, 5, 59).as_ref().map(<[u8; 8]>::as_slice)).as_deref(), Some("23:05:59"));
        for (year, month, day) in [(10_000, 1, 1), (1, 100, 1), (1, 1, 100), (u32::MAX, 1, 1)] {
            assert_eq!(date(year, month, day), None);
            assert_eq!(time(year, month, day), None);
        }
    }

    #[test]
    fn numbers_have_at_least_their_width() {
        for value in [0, 7, 42, 100, 999, 1000, 9_999, 10_000, 65_535, 99_999, 999_999, 1_000_000, u32::MAX] {
            for width in 0..=10 {
                let mut text = b"-".to_vec();
                let mut digits = Digits::new();
                digits.number(value, width);
                digits.sign(b'.');
                digits.append_to(&mut text);
                assert_eq!(text, format!("-{value:0width$}.").into_bytes());
            }
        }
    }
}
