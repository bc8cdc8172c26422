//! The numbers in dates and decimals, written digit by digit: formatting takes several times as long, for every row.

/// Appends `value` with at least as many digits as `width`, which is ten at most.
pub(super) fn digits(text: &mut String, value: u32, width: usize) {
    let mut written = [b'0'; 10];
    let (mut rest, mut from) = (value, written.len());
    for (at, digit) in written.iter_mut().enumerate().rev() {
        if rest == 0 {
            break;
        }
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        from = at;
    }
    let from = from.min(written.len().saturating_sub(width.max(1)));
    text.push_str(std::str::from_utf8(&written[from..]).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_at_least_their_width() {
        for value in [0, 7, 42, 999, 1000, 65_535, u32::MAX] {
            for width in [1, 2, 4, 6] {
                let mut text = String::new();
                digits(&mut text, value, width);
                assert_eq!(text, format!("{value:0width$}"));
            }
        }
    }
}
