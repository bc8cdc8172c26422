//! The catalogue as a table.

use super::table::{shorten, table};
use crate::catalogue::Catalogue;

/// Returns the catalogue with what each tool costs to call and to have.
#[must_use]
pub fn catalogue_table(catalogue: &Catalogue) -> String {
    let mut rows: Vec<Vec<String>> = catalogue
        .tools
        .iter()
        .map(|tool| {
            vec![
                tool.name.clone(),
                if tool.read_only { "reads" } else { "changes" }.to_owned(),
                tool.price_label(),
                tool.bytes.to_string(),
                tool.tokens.to_string(),
                shorten(tool.title.as_deref().unwrap_or(&tool.description), 40),
            ]
        })
        .collect();
    let bytes: usize = catalogue.tools.iter().map(|tool| tool.bytes).sum();
    let tokens: usize = catalogue.tools.iter().map(|tool| tool.tokens).sum();
    rows.push(vec![
        format!("{} tools", catalogue.tools.len()),
        String::new(),
        String::new(),
        bytes.to_string(),
        tokens.to_string(),
        "in every request to a model".to_owned(),
    ]);
    let mut text = table(&["tool", "effect", "price", "bytes", "tokens≈", "what it does"], &[3, 4], &rows);
    for unavailable in &catalogue.unavailable {
        text.push_str(&format!("\n! {}: {}\n", unavailable.server, shorten(&unavailable.reason, 300)));
    }
    text
}
