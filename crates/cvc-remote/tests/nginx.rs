//! The same from a server that others wrote: nginx, where it is installed.

use std::fs;
use std::io::Error;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use cvc::{DType, Layout, ReadOptions, Reader, RowSlice, WriteOptions, Writer};
use cvc_conformance::require;
use cvc_remote::{Remote, RemoteOptions};
use tempfile::TempDir;

/// A server of a folder, which ends with this.
struct Nginx {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl Nginx {
    fn start() -> Result<Nginx, Error> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        // All that it writes goes into the folder.
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path temporary_{name};"))
            .concat();
        let config = format!(
            "daemon off; master_process off; pid pid; error_log error.log; events {{}} \
             http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port}; root .; }} }}"
        );
        fs::write(folder.path().join("nginx.conf"), config)?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "error.log"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut nginx = Nginx { child, folder, port };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if nginx.child.try_wait()?.is_some() {
                let said = fs::read_to_string(nginx.folder.path().join("error.log")).unwrap_or_default();
                return Err(Error::other(format!("nginx does not start: {said}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // If it has ended already, so much the better.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nginx_gives_many_ranges_in_an_answer() {
    let Some(nginx) = require::device("nginx", Nginx::start()) else { return };
    let values: Vec<f32> = (0..30_000 * 64u32).map(|at| (at % 40_009) as f32).collect();
    let options = WriteOptions::new(Layout::Native).vectors(DType::F32, 64, "raw").unwrap();
    let path = nginx.folder.path().join("v.cvc");
    let mut writer = Writer::create(&path, options).unwrap();
    writer.write_vectors(RowSlice::new(&values, 64).unwrap()).unwrap();
    writer.finish().unwrap();
    let url = format!("http://127.0.0.1:{}/v.cvc", nginx.port);
    let remote = Remote::open(&url, &RemoteOptions::default()).unwrap();
    let counters = remote.counters();
    let far = Reader::new(Box::new(remote), ReadOptions::default()).unwrap();
    let rows: Vec<u64> = (0..500).map(|at| at * at * 7919 % 30_000).collect();
    let read: Vec<f32> = far.vectors().unwrap().read(&rows[..]).unwrap();
    let wanted = rows.iter().flat_map(|row| &values[usize::try_from(*row).unwrap() * 64..][..64]);
    assert!(read.iter().eq(wanted));
    let stats = counters.stats();
    assert!(stats.requests < 15 && stats.fallbacks == 0, "{stats}");
    assert_eq!(far.vectors().unwrap().read::<f32>(..).unwrap(), values);
    assert!(far.verify().unwrap().is_ok());
    // Another file under the same name is another file, however much it looks like the first.
    fs::write(&path, fs::read(&path).unwrap()).unwrap();
    let now = fs::File::options().append(true).open(&path).unwrap();
    now.set_modified(std::time::UNIX_EPOCH).unwrap();
    let error = far.vectors().unwrap().read::<f32>(20_000..20_001).unwrap_err();
    assert!(error.to_string().contains("changed since it was opened"), "{error}");
}
