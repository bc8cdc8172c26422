//! `bookshop serve ADDRESS`, or `bookshop --self-check`.

use std::net::TcpListener;
use std::process::ExitCode;

use bookshop::catalogue::Catalogue;
use bookshop::server::{respond, serve};

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(message) => {
            println!("{message}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("bookshop: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<String, String> {
    // The catalogue is released together with the program.
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let catalogue = Catalogue::read(&program.with_file_name("catalogue.csv"))?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--self-check"] => {
            let (status, _) = respond("/health", &catalogue);
            if status.starts_with("200") {
                Ok(format!("healthy: {} titles", catalogue.titles()))
            } else {
                Err(status.into())
            }
        }
        ["serve", address] => {
            let listener = TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
            serve(&listener, &catalogue);
            Ok(String::new())
        }
        _ => Err("use `serve ADDRESS` or `--self-check`".to_owned()),
    }
}
