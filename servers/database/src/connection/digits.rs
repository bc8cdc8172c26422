//! The numbers in dates and decimals, written digit by digit: formatting takes several times as long, for every row.

/// The longest there is: a date and time whose every part is the largest that MySQL's protocol has room for, which its server
/// never sends, has 36.
const BYTES_MAX: usize = 40;

/// What is put together digit by digit: all of a time, or a part of a number.
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
        self.digit(value / 10);
        self.digit(value);
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
