//! Where the browser comes back to after a login: a server on 127.0.0.1 for one answer.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use super::said;

/// The path that the browser comes back to.
const PATH: &str = "/callback";

/// Longest that a browser may take to send its request.
const HEAD_MAX: Duration = Duration::from_secs(10);

/// Most connections at a time; a browser opens a few, of which one says something.
const CONNECTIONS_MAX: usize = 16;

/// The place, before anybody came.
pub(super) struct Callback {
    listener: TcpListener,
    address: SocketAddr,
}

/// What the browser brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Brought {
    pub(super) code: String,
    /// Which authorization server says that it was.
    pub(super) issuer: Option<String>,
}

/// What a request to the callback is.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Not of this login: from another page, or from an earlier login.
    Other,
    Brought(Brought),
    /// The authorization server says that there is no login.
    Refused(String),
}

impl Callback {
    /// Listens on 127.0.0.1, at any free port where none is given.
    pub(super) async fn listen(port: Option<u16>) -> anyhow::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)));
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        Ok(Self { address: listener.local_addr()?, listener })
    }

    /// Returns the address that the authorization server is to send the browser to.
    pub(super) fn redirect_uri(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Waits for the answer to the login with this `state`; what else comes is turned away.
    pub(super) async fn wait(self, state: &str) -> anyhow::Result<Brought> {
        let (sender, mut answers) = mpsc::channel(1);
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (state, host): (Arc<str>, Arc<str>) = (state.into(), self.address.to_string().into());
        loop {
            let accepted = tokio::select! {
                answer = answers.recv() => match answer.context("nobody answers")? {
                    Answer::Brought(brought) => return Ok(brought),
                    Answer::Refused(reason) => bail!("the authorization server refused: {reason}"),
                    Answer::Other => continue,
                },
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { continue };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (sender, state, host) = (sender.clone(), Arc::clone(&state), Arc::clone(&host));
            tokio::spawn(async move {
                let _place = place;
                let answer = |request| respond(request, Arc::clone(&state), Arc::clone(&host), sender.clone());
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_MAX)
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer))
                    .await;
            });
        }
    }
}

async fn respond(
    request: Request<Incoming>,
    state: Arc<str>,
    host: Arc<str>,
    sender: mpsc::Sender<Answer>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let named = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    // A page whose name was made to mean 127.0.0.1 would have its own name here.
    let answer = if request.method() == Method::GET && named == Some(&*host) && request.uri().path() == PATH {
        read(request.uri().query().unwrap_or_default(), &state)
    } else {
        Answer::Other
    };
    let (status, text) = match answer {
        Answer::Other => (StatusCode::BAD_REQUEST, "This is not the answer to the login that is under way.\n"),
        Answer::Brought(_) => (StatusCode::OK, "Done. Close this page and go back to the terminal.\n"),
        Answer::Refused(_) => (StatusCode::OK, "There is no login. The terminal says why.\n"),
    };
    if answer != Answer::Other {
        let _ = sender.try_send(answer);
    }
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, http::HeaderValue::from_static(value));
    }
    Ok(response)
}

fn read(query: &str, state: &str) -> Answer {
    let Ok(url) = Url::parse(&format!("http://127.0.0.1/?{query}")) else { return Answer::Other };
    let one = |name: &str| {
        let mut values = url.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        // A name that comes twice means two things to two readers.
        values.next().filter(|_| values.next().is_none())
    };
    if one("state").as_deref() != Some(state) {
        return Answer::Other;
    }
    if let Some(error) = one("error") {
        let text = one("error_description").unwrap_or_default();
        return Answer::Refused(said(&format!("{error} {text}")).trim().to_owned());
    }
    one("code").map_or(Answer::Other, |code| Answer::Brought(Brought { code, issuer: one("iss") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_this_login_is_one() {
        let brought = |issuer: Option<&str>| {
            Answer::Brought(Brought { code: "c d".to_owned(), issuer: issuer.map(str::to_owned) })
        };
        assert_eq!(read("code=c+d&state=s", "s"), brought(None));
        assert_eq!(read("state=s&iss=https%3A%2F%2Fas&code=c%20d", "s"), brought(Some("https://as")));
        for other in [
            "",
            "code=c",
            "code=c&state=t",
            "code=c&state=",
            "state=s",
            "code=c&state=s&state=s",
            "code=c&state=t&state=s",
        ] {
            assert_eq!(read(other, "s"), Answer::Other, "{other}");
        }
        let refused = read("error=access_denied&error_description=no%1b%5B2J&state=s", "s");
        assert_eq!(refused, Answer::Refused("access_denied no [2J".to_owned()));
        assert_eq!(read("error=access_denied", "s"), Answer::Other);
    }
}
