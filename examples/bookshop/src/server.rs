//! The shop over HTTP: `GET /health` and `GET /quote/<copies>/<title>`.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::catalogue::Catalogue;
use crate::price::total_cents;

/// Answers requests until the process ends.
pub fn serve(listener: &TcpListener, catalogue: &Catalogue) {
    for stream in listener.incoming().flatten() {
        let _ = answer(stream, catalogue);
    }
}

fn answer(stream: TcpStream, catalogue: &Catalogue) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut request = String::new();
    BufReader::new(&stream).read_line(&mut request)?;
    let (status, body) = respond(request.split(' ').nth(1).unwrap_or("/"), catalogue);
    let length = body.len();
    write!(&stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// Returns the status line and the body for a path.
pub fn respond(path: &str, catalogue: &Catalogue) -> (&'static str, String) {
    let mut parts = path.trim_start_matches('/').splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("health"), None, None) => ("200 OK", format!("{} titles\n", catalogue.titles())),
        (Some("quote"), Some(copies), Some(title)) => {
            let quote = copies.parse().ok().zip(catalogue.price_cents(&title.replace("%20", " ")));
            match quote {
                Some((copies, price)) => ("200 OK", format!("{}\n", total_cents(price, copies))),
                None => ("404 Not Found", "no such book\n".to_owned()),
            }
        }
        _ => ("404 Not Found", "try /health or /quote/10/Emma\n".to_owned()),
    }
}
