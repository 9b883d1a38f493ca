//! fio as the load generator, with its NBD engine.

use std::error::Error;
use std::process::{Command, Stdio};
use std::time::Duration;

use nbd_client::Target;
use serde_json::Value;

use crate::servers::{Server, need};

/// The operation of fio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Random reads of real pages, which testkit's generator wrote.
    Reads,
    /// Random writes of data that fio generates.
    Writes,
}

impl Workload {
    /// Returns the name in the rows, which is also fio's name of the operation.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reads => "read",
            Self::Writes => "write",
        }
    }

    /// Returns the description of the data.
    pub(crate) fn data(self) -> &'static str {
        match self {
            Self::Reads => "real pages",
            // fio's compressible buffers are random bytes followed by zeros, which are easier
            // for lz4 than real pages.
            Self::Writes => "synthetic data, half of each page zeros",
        }
    }
}

/// Returns the requests per second of one connection. Writes leave unknown content on the disk.
pub(crate) fn rate(
    server: &Server,
    work: Workload,
    depth: u16,
    time: Duration,
) -> Result<f64, Box<dyn Error>> {
    need("fio", "fio")?;
    let Target::Unix(socket) = server.target() else {
        return Err("fio is only used over unix sockets".into());
    };
    let option = |name: &str, value: &str| format!("--{name}={value}");
    let output = Command::new("fio")
        .args([
            option("name", "bench"),
            option("ioengine", "nbd"),
            option("uri", &format!("nbd+unix:///?socket={}", socket.display())),
            option("rw", if work == Workload::Reads { "randread" } else { "randwrite" }),
            option("bs", "4k"),
            option("iodepth", &depth.to_string()),
            option("time_based", "1"),
            option("runtime", &format!("{}ms", time.as_millis())),
            option("refill_buffers", "1"),
            option("buffer_compress_percentage", "50"),
            option("output-format", "json"),
        ])
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(format!("fio: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    // fio may print notes before the JSON.
    let start = output.stdout.iter().position(|&byte| byte == b'{').ok_or("fio printed no JSON")?;
    let report: Value = serde_json::from_slice(&output.stdout[start..])?;
    let iops = report["jobs"][0][work.name()]["iops"].as_f64().filter(|&iops| iops > 0.0);
    Ok(iops.ok_or("fio measured nothing")?)
}
