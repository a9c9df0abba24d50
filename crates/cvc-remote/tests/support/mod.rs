//! A server on loopback: files by ranges as HTTP has them, objects as S3 takes them, and faults on demand.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How many ranges a server takes in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ranges {
    Many,
    One,
    /// It answers a list with its first range alone.
    First,
    Never,
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection is cut after so many bytes of the body.
    Cut(usize),
    /// The answer is whole, and lacks so many bytes of what its range says.
    Short(usize),
    /// The answer has so many bytes more than its range says.
    Long(usize),
    /// The answer has a part less than was asked for.
    PartMissing,
    /// Status 503.
    Unavailable,
    /// Nothing is said.
    Silent,
    /// Nothing is wrong: for a fault of a later request.
    None,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// Bytes of the body that were sent.
    pub(crate) sent: usize,
}

#[derive(Default)]
pub(crate) struct State {
    /// By path, with slash.
    pub(crate) files: BTreeMap<String, Arc<Vec<u8>>>,
    pub(crate) e_tag: Option<String>,
    pub(crate) modified: Option<String>,
    pub(crate) ranges: Option<Ranges>,
    /// What goes wrong with the next requests, in their order.
    pub(crate) faults: VecDeque<Fault>,
    pub(crate) asked: Vec<Asked>,
    /// Parts of uploads that are not complete, by id.
    pub(crate) uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    pub(crate) begun: usize,
    /// A status for whatever is asked.
    pub(crate) status: Option<&'static str>,
}

pub(crate) struct Server {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(crate) fn new() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State { e_tag: Some("\"one\"".into()), ..State::default() }));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), state) = (stream, shared.clone()) else { continue };
                // A client that goes away is no failure of the server.
                thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Server { address, state }
    }

    /// With one file.
    pub(crate) fn with(bytes: Vec<u8>) -> (Server, String) {
        let server = Server::new();
        server.state().files.insert("/v.cvc".into(), Arc::new(bytes));
        let url = server.url("/v.cvc");
        (server, url)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn fail(&self, faults: &[Fault]) {
        self.state().faults.extend(faults);
    }

    /// What was asked since this was called last.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state().asked)
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) => headers.insert(name.to_lowercase(), value.trim().to_owned()),
                None => break,
            };
        }
        let len = headers.get("content-length").map_or(0, |len| len.parse().unwrap());
        let mut body = vec![0; len];
        reader.read_exact(&mut body)?;

        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let asked = Asked { method: method.clone(), path: path.into(), headers, sent: 0 };
        let (fault, answer) = {
            let mut state = state.lock().unwrap();
            let fault = state.faults.pop_front().unwrap_or(Fault::None);
            let answer = match fault {
                Fault::Unavailable => Answer::of("503 Service Unavailable"),
                _ if state.status.is_some() => Answer::of(state.status.unwrap()),
                _ if method == "GET" || method == "HEAD" => get(&state, &asked, fault),
                _ => store(&mut state, &method, path, query, body),
            };
            let sent = if method == "HEAD" { 0 } else { answer.body.len() };
            state.asked.push(Asked { sent, ..asked });
            (fault, answer)
        };
        let Answer { status, headers, body } = answer;
        if fault == Fault::Silent {
            thread::sleep(Duration::from_secs(600));
        }
        let short = if let Fault::Short(len) = fault { len } else { 0 };
        let mut body = body;
        body.truncate(body.len() - short.min(body.len()));
        if let Fault::Long(len) = fault {
            body.resize(body.len() + len, 0);
        }
        let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        stream.write_all((head + "\r\n").as_bytes())?;
        if method == "HEAD" {
            continue;
        }
        if let Fault::Cut(len) = fault {
            stream.write_all(&body[..len.min(body.len())])?;
            return stream.shutdown(Shutdown::Both);
        }
        stream.write_all(&body)?;
    }
}

struct Answer {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn of(status: &'static str) -> Answer {
        Answer { status, headers: Vec::new(), body: Vec::new() }
    }
}

fn get(state: &State, asked: &Asked, fault: Fault) -> Answer {
    let Some(bytes) = state.files.get(&asked.path) else { return Answer::of("404 Not Found") };
    if asked.headers.get("if-match").is_some_and(|wanted| Some(wanted) != state.e_tag.as_ref()) {
        return Answer::of("412 Precondition Failed");
    }
    let mut headers = vec![("Last-Modified", "Sat, 01 Nov 2025 10:00:00 GMT".to_owned())];
    if let Some(modified) = &state.modified {
        headers[0].1.clone_from(modified);
    }
    headers.extend(state.e_tag.clone().map(|e_tag| ("ETag", e_tag)));
    let support = state.ranges.unwrap_or(Ranges::Many);
    let ranges = asked.headers.get("range").filter(|_| support != Ranges::Never);
    let mut ranges: Vec<Range<usize>> = ranges
        .map(|ranges| {
            let list = ranges.strip_prefix("bytes=").unwrap().split(',');
            list.map(|range| {
                let (first, last) = range.split_once('-').unwrap();
                first.parse().unwrap()..bytes.len().min(last.parse::<usize>().unwrap() + 1)
            })
            .collect()
        })
        .unwrap_or_default();
    if ranges.len() > 1 && support == Ranges::First {
        ranges.truncate(1);
    }
    if ranges.iter().any(|range| range.start >= bytes.len()) {
        headers.push(("Content-Range", format!("bytes */{}", bytes.len())));
        return Answer { status: "416 Range Not Satisfiable", headers, body: Vec::new() };
    }
    let named = |range: &Range<usize>| format!("bytes {}-{}/{}", range.start, range.end - 1, bytes.len());
    match ranges.as_slice() {
        [one] => {
            headers.push(("Content-Range", named(one)));
            Answer { status: "206 Partial Content", headers, body: bytes[one.clone()].to_vec() }
        }
        [_, _, ..] if support == Ranges::Many => {
            headers.push(("Content-Type", "multipart/byteranges; boundary=0001x".into()));
            if fault == Fault::PartMissing {
                ranges.pop();
            }
            let mut body = Vec::new();
            for range in &ranges {
                let head = format!(
                    "\r\n--0001x\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n",
                    named(range)
                );
                body.extend_from_slice(head.as_bytes());
                body.extend_from_slice(&bytes[range.clone()]);
            }
            body.extend_from_slice(b"\r\n--0001x--\r\n");
            Answer { status: "206 Partial Content", headers, body }
        }
        _ => Answer { status: "200 OK", headers, body: bytes.to_vec() },
    }
}

/// What S3 does with objects and their parts.
fn store(state: &mut State, method: &str, path: &str, query: &str, body: Vec<u8>) -> Answer {
    let of = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let xml = |text: String| Answer { body: text.into_bytes(), ..Answer::of("200 OK") };
    match (method, of("uploadId")) {
        ("PUT", None) => {
            state.files.insert(path.into(), Arc::new(body));
            Answer { headers: vec![("ETag", "\"whole\"".into())], ..Answer::of("200 OK") }
        }
        ("POST", None) => {
            state.begun += 1;
            let id = format!("id{}", state.begun);
            state.uploads.insert(id.clone(), BTreeMap::new());
            xml(format!(
                "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>{id}</UploadId>\
                 </InitiateMultipartUploadResult>"
            ))
        }
        ("PUT", Some(id)) => {
            let number = of("partNumber").unwrap().parse().unwrap();
            let Some(parts) = state.uploads.get_mut(id) else { return Answer::of("404 Not Found") };
            parts.insert(number, body);
            Answer { headers: vec![("ETag", format!("\"part{number}\""))], ..Answer::of("200 OK") }
        }
        ("POST", Some(id)) => {
            let parts = state.uploads.remove(id).unwrap();
            state.files.insert(path.into(), Arc::new(parts.into_values().flatten().collect()));
            xml("<CompleteMultipartUploadResult><Location>l</Location><Bucket>b</Bucket><Key>k</Key>\
                 <ETag>\"all\"</ETag></CompleteMultipartUploadResult>"
                .into())
        }
        ("DELETE", Some(id)) => {
            state.uploads.remove(id);
            Answer::of("204 No Content")
        }
        _ => Answer::of("405 Method Not Allowed"),
    }
}
