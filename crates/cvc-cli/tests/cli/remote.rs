//! Files at URLs: the program says of them what it says of the same file here.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use crate::harness::{Folder, example};

/// A server of one file, by one range in each request.
fn serve(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/all.cvc", listener.local_addr().unwrap());
    let bytes = Arc::new(bytes);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, bytes) = (stream.unwrap(), bytes.clone());
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut range) = (String::new(), 0..0);
                // A client that goes away is no failure of the server.
                while reader.read_line(&mut line).is_ok_and(|len| len > 0) {
                    if let Some(list) = line.to_lowercase().strip_prefix("range: bytes=") {
                        let (first, last) = list.split(',').next().unwrap().split_once('-').unwrap();
                        range = first.parse().unwrap()
                            ..bytes.len().min(last.trim().parse::<usize>().unwrap() + 1);
                    }
                    if line == "\r\n" {
                        let (len, all) = (range.len(), bytes.len());
                        let named = format!("bytes {}-{}/{all}", range.start, range.end - 1);
                        let head = "HTTP/1.1 206 Partial Content\r\nETag: \"1\"\r\n";
                        let head = format!("{head}Content-Length: {len}\r\nContent-Range: {named}\r\n\r\n");
                        let answer = [head.as_bytes(), &bytes[range.clone()]].concat();
                        if stream.write_all(&answer).is_err() {
                            return;
                        }
                    }
                    line.clear();
                }
            });
        }
    });
    url
}

/// The sample, packed here and served.
fn packed(folder: &Folder, options: &[&str]) -> String {
    let rows = example("minilm2k.f32.npy");
    folder.cvc(&[&["pack", rows.to_str().unwrap(), "-o", "all.cvc"], options].concat()).ok();
    serve(folder.read("all.cvc"))
}

#[test]
fn every_command_reads_a_url_as_it_reads_a_path() {
    let folder = Folder::new();
    let url = packed(&folder, &["--chunk-rows", "512"]);
    let there = |args: &[&str]| {
        let args: Vec<&str> = args.iter().map(|arg| if *arg == "all.cvc" { &*url } else { *arg }).collect();
        folder.cvc(&args).ok()
    };
    for args in [
        &["info", "all.cvc"][..],
        &["info", "all.cvc", "--json"],
        &["verify", "all.cvc", "--json"],
        &["search", "all.cvc", "all.cvc", "-k", "3", "--device", "cpu", "--rows", "0..1000"],
    ] {
        // But for how long it took.
        let lasting = |text: &str| {
            let text = text.replace(&url, "all.cvc");
            text.lines().filter(|line| !line.ends_with(" s")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(lasting(folder.cvc(args).ok().stdout()), lasting(there(args).stdout()), "{args:?}");
    }
    for (output, args) in [
        ("a.npy", &["unpack", "all.cvc", "--device", "cpu", "-o"][..]),
        ("b.npy", &["unpack", "all.cvc", "--rows", "700..900", "--damaged", "skip", "--device", "cpu", "-o"]),
        ("c.html", &["report", "all.cvc", "-o"]),
        ("d.cvc", &["repair", "all.cvc", "--force", "-o"]),
        ("e.cvc", &["upgrade", "all.cvc", "--layout", "v1", "-o"]),
    ] {
        let args = [args, &[output]].concat();
        folder.cvc(&args).ok();
        let bytes = folder.read(output);
        std::fs::remove_file(folder.path(output)).unwrap();
        there(&args);
        assert!(bytes == folder.read(output), "{args:?}");
    }
}

#[test]
fn what_the_requests_were_is_said_if_it_is_asked_for() {
    let folder = Folder::new();
    let url = packed(&folder, &[]);
    let run =
        folder.cvc(&["unpack", &url, "-o", "x.npy", "--rows", "1005..1009", "--device", "cpu", "--stats"]);
    let run = run.status(0);
    // The first bytes, with the head of the only chunk; the last; the blocks.
    assert!(run.stderr().starts_with("stats: 3 requests, "), "{}", run.stderr());
    let rows = example("minilm2k.f32.npy");
    folder.cvc(&["info", &url, "--remote", "piece=9"]).refused(2, &["piece"]);
    folder.cvc(&["info", &url, "--remote", "regoin=x"]).refused(2, &["regoin"]);
    folder.cvc(&["info", "ftp://example.org/x"]).refused(2, &["s3"]);
    folder.cvc(&["info", "file:///no/such/file.cvc"]).refused(2, &["cannot be opened"]);
    folder.cvc(&["pack", rows.to_str().unwrap(), "-o", &url]).refused(2, &["HTTP"]);
    let v1 = [
        "pack",
        rows.to_str().unwrap(),
        "-o",
        "s3://b/k",
        "--layout",
        "v1",
        "--remote",
        "skip_signature=true",
    ];
    folder.cvc(&v1).refused(2, &["native"]);
}

#[test]
fn what_of_a_url_may_be_a_secret_is_not_told() {
    let folder = Folder::new();
    let rows = example("minilm2k.f32.npy");
    let rows = rows.to_str().unwrap();
    folder.write("table.csv", "a,b\n1,2\n");
    let url = packed(&folder, &[]);
    let signed = format!("{url}?sig=hush");
    let bad = serve([&folder.read("all.cvc")[..1000], &[0; 9000]].concat()) + "?sig=hush";
    let store = "s3://b/k?sig=hush";
    let named = "https://u:hush@h/x.npy";
    for (status, args) in [
        (1, &["info", &*bad][..]),
        (1, &["verify", &bad]),
        (1, &["repair", &bad, "-o", "x.cvc"]),
        (1, &["search", "all.cvc", &bad]),
        (2, &["unpack", "ftp://u:hush@h/x?sig=hush", "-o", "x.npy"]),
        (2, &["info", "https://u:hush@h:99999/x?sig=hush"]),
        (2, &["info", store]),
        (2, &["pack", rows, "-o", store]),
        (2, &["pack", named, "-o", "x.cvc"]),
        (2, &["pack", "https://u:hush@h/x.npy?a=hush", "-o", "x.cvc"]),
        (2, &["pack", rows, "--add", "x=https://u:hush@h/x.npy", "-o", "x.cvc"]),
        (2, &["pack", rows, "--sections", named, "-o", "x.cvc"]),
        (2, &["convert", named, "-o", "x.cvc"]),
        (2, &["convert", "table.csv", "-o", store]),
        (2, &["report", "all.cvc", "--json", "--against", named]),
        (2, &["recall", "all.cvc", named, "all.cvc"]),
        (2, &["unpack", "all.cvc", "-o", "x.npy", "--rows-from", named]),
    ] {
        let run = folder.cvc(args).status(status);
        let told = [run.stdout(), run.stderr()].concat();
        assert!(told.contains("://") && !told.contains("hush"), "{args:?}: {told}");
    }
    let run = folder.cvc(&["upgrade", &signed, "--layout", "v1", "-o", "x.cvc"]).ok();
    assert!(run.stdout().contains(&url) && !run.stdout().contains("hush"), "{}", run.stdout());
    folder.cvc(&["report", &signed, "-o", "x.html"]).ok();
    let page = String::from_utf8(folder.read("x.html")).unwrap();
    assert!(page.contains("all.cvc") && !page.contains("hush"));
    folder.cvc(&["search", "all.cvc", &signed, "-k", "3", "--device", "cpu"]).ok();
}

#[test]
fn only_matrices_are_packed_to_a_url_and_nothing_else_is_written_there() {
    let folder = Folder::new();
    packed(&folder, &[]);
    folder.write("table.csv", "a,b\n1,2\n");
    // No request is made, so there is no store that this waits for.
    for args in [
        &["pack", "table.csv"][..],
        &["convert", "all.cvc"],
        &["unpack", "all.cvc"],
        &["upgrade", "all.cvc"],
        &["repair", "all.cvc"],
        &["report", "all.cvc"],
        &["search", "all.cvc", "all.cvc"],
    ] {
        for url in ["s3://b/k.npz", "file:///k.npz"] {
            folder.cvc(&[args, &["-o", url]].concat()).refused(2, &["--output", "paths only"]);
        }
    }
}

#[test]
#[cfg(unix)]
fn a_file_of_this_machine_is_packed_and_read_by_its_url() {
    let folder = Folder::new();
    let rows = example("minilm2k.f32.npy");
    let url = format!("file://{}", folder.path("all.cvc").display());
    let told = folder.cvc(&["pack", rows.to_str().unwrap(), "-o", &url, "--json"]).json();
    assert_eq!(told["output"], url.as_str());
    folder.cvc(&["verify", &url]).ok();
    folder.cvc(&["verify", "all.cvc"]).ok();
}
