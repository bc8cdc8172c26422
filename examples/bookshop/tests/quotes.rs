//! What customers were promised.

use bookshop::catalogue::Catalogue;
use bookshop::price::{discount_percent, total_cents};
use bookshop::server::respond;

#[test]
fn single_copies_have_no_discount() {
    assert_eq!(total_cents(1250, 1), 1250);
    assert_eq!(discount_percent(9), 0);
}

#[test]
fn large_orders_have_the_bulk_discount() {
    assert_eq!(total_cents(1000, 20), 17_000);
}

#[test]
fn quotes_come_over_http() {
    let catalogue = Catalogue::parse("title,price_cents\nEmma,900\nMoby Dick,1250\n").unwrap();
    assert_eq!(respond("/quote/2/Moby%20Dick", &catalogue), ("200 OK", "2500\n".to_owned()));
    assert_eq!(respond("/quote/2/Ulysses", &catalogue).0, "404 Not Found");
    assert_eq!(respond("/health", &catalogue).0, "200 OK");
}

#[test]
fn broken_catalogues_are_not_served() {
    assert!(Catalogue::parse("title,price_cents\nEmma,cheap\n").is_err());
    assert!(Catalogue::parse("title,price_cents\n").is_err());
}
