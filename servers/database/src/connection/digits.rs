//! The numbers in dates and decimals, written digit by digit: formatting takes several times as long, for every row.

/// Appends `value` with at least as many digits as `width`.
pub(super) fn digits(text: &mut String, value: u32, width: u32) {
    let length = value.checked_ilog10().map_or(1, |log| log + 1).max(width);
    for place in (0..length).rev() {
        let digit = 10_u32.checked_pow(place).map_or(0, |power| value / power % 10);
        text.push(char::from_digit(digit, 10).unwrap_or_default());
    }
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
                assert_eq!(text, format!("{value:0width$}", width = usize::try_from(width).unwrap()));
            }
        }
    }
}
