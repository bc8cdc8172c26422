//! The books on offer, from `catalogue.csv`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The price in cents of each title.
#[derive(Debug, Default)]
pub struct Catalogue(BTreeMap<String, u64>);

impl Catalogue {
    /// Reads `title,price_cents` lines.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text)
    }

    /// Parses `title,price_cents` lines; the first line is the heading.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut books = BTreeMap::new();
        for (number, line) in text.lines().enumerate().skip(1) {
            let (title, price) = line.rsplit_once(',').ok_or(format!("line {}: no price", number + 1))?;
            let price = price.parse().map_err(|_| format!("line {}: `{price}` is not a price in cents", number + 1))?;
            books.insert(title.to_owned(), price);
        }
        if books.is_empty() { Err("no books".to_owned()) } else { Ok(Self(books)) }
    }

    /// Returns the price of one copy, in cents.
    pub fn price_cents(&self, title: &str) -> Option<u64> {
        self.0.get(title).copied()
    }

    /// Returns how many titles there are.
    pub fn titles(&self) -> usize {
        self.0.len()
    }
}
