//! What a number of copies costs.

/// Copies from which the bulk discount applies.
pub const BULK_COPIES: u32 = 10;

/// The bulk discount, in percent.
pub const BULK_DISCOUNT_PERCENT: u64 = 15;

/// Returns the discount on an order of `copies` copies, in percent.
pub fn discount_percent(copies: u32) -> u64 {
    if copies > BULK_COPIES { BULK_DISCOUNT_PERCENT } else { 0 }
}

/// Returns what `copies` copies cost together, in cents.
pub fn total_cents(price_cents: u64, copies: u32) -> u64 {
    price_cents * u64::from(copies) * (100 - discount_percent(copies)) / 100
}
