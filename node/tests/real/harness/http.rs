//! HTTP/1.1 by hand, so that the tests see what a library would hide: how exactly a body ends.

use std::io::{BufRead as _, BufReader, Error, ErrorKind, Read, Result, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// Longest silence before a test gives up on a response.
const SILENCE: Duration = Duration::from_secs(60);

/// `Accept` as containerd sends it; without it, docker-registry denies that it has an OCI manifest.
pub(crate) const MANIFEST_TYPES: &str = "application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, */*";

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As long as declared.
    Complete,
    /// The peer closed cleanly (FIN) before the declared length.
    Short,
    /// The peer reset the connection.
    Reset,
}

/// Status line and headers.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// First line.
    pub(crate) first: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// Reads up to the empty line. `None` if the peer closed before the first byte.
    pub(crate) fn read(reader: &mut BufReader<TcpStream>) -> Result<Option<Self>> {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, "closed within the headers"));
            }
            let line = line.trim_end();
            if line.is_empty() {
                return Ok(Some(Self { first: first.trim_end().to_owned(), headers }));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| Error::other(format!("not a header: {line}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// The first header of this name (lower case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The second word of the first line: the status of a response, the target of a request.
    pub(crate) fn second_word(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    /// `Content-Length`, if declared.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }
}

/// A response with all of the body that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// HTTP status.
    pub(crate) status: u16,
    /// Status line and headers.
    pub(crate) head: Head,
    /// What arrived.
    pub(crate) body: Vec<u8>,
    /// How it ended.
    pub(crate) ending: Ending,
}

impl Response {
    /// A header's value; panics with the whole head if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.head.header(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.head))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// An open request whose response has not been read.
pub(crate) struct Exchange {
    reader: BufReader<TcpStream>,
    has_body: bool,
}

impl Exchange {
    /// Sends a request to 127.0.0.1.
    pub(crate) fn start(port: u16, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Self> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let mut exchange = Self::start_raw(port, request.as_bytes())?;
        exchange.has_body = method != "HEAD";
        Ok(exchange)
    }

    /// Sends these bytes as they are.
    pub(crate) fn start_raw(port: u16, bytes: &[u8]) -> Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        // A server may refuse before it has read everything: what it says is still there to be read.
        if let Err(error) = stream.write_all(bytes) {
            let refused = matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
            if !refused {
                return Err(error);
            }
        }
        Ok(Self { reader: BufReader::new(stream), has_body: true })
    }

    /// Reads the head of the response.
    pub(crate) fn read_head(&mut self) -> Result<Head> {
        Head::read(&mut self.reader)?.ok_or_else(|| Error::new(ErrorKind::UnexpectedEof, "closed without a response"))
    }

    /// The body, once the head is read; it goes on for as long as the connection does.
    pub(crate) fn body(&mut self) -> &mut impl Read {
        &mut self.reader
    }

    /// Where the body of the request goes.
    pub(crate) fn writer(&mut self) -> &mut TcpStream {
        self.reader.get_mut()
    }

    /// Reads exactly this many bytes of the body.
    pub(crate) fn read_exactly(&mut self, bytes: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        self.reader.read_exact(&mut buffer)?;
        Ok(buffer)
    }

    /// Reads all of the response.
    pub(crate) fn finish(mut self) -> Result<Response> {
        let head = self.read_head()?;
        let status = head.second_word().parse().map_err(|_| Error::other(format!("no status in {:?}", head.first)))?;
        let chunked = head.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let no_body = !self.has_body || matches!(status, 204 | 304);
        let (body, ending) = match (no_body, chunked) {
            (true, _) => (Vec::new(), Ending::Complete),
            (false, true) => read_chunks(&mut self.reader)?,
            (false, false) => read_body(&mut self.reader, head.content_length())?,
        };
        Ok(Response { status, head, body, ending })
    }
}

/// Reads a body of a declared length, or up to the end of the stream.
pub(crate) fn read_body(reader: &mut impl Read, length: Option<u64>) -> Result<(Vec<u8>, Ending)> {
    let mut body = Vec::new();
    match reader.take(length.unwrap_or(u64::MAX)).read_to_end(&mut body) {
        Ok(_) if length.is_none_or(|length| body.len() as u64 == length) => Ok((body, Ending::Complete)),
        Ok(_) => Ok((body, Ending::Short)),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok((body, Ending::Reset)),
        Err(error) => Err(error),
    }
}

fn read_chunks(reader: &mut BufReader<TcpStream>) -> Result<(Vec<u8>, Ending)> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Ok(length) = u64::from_str_radix(line.trim(), 16) else { return Ok((body, Ending::Short)) };
        let (chunk, ending) = read_body(reader, Some(length))?;
        body.extend(chunk);
        if ending != Ending::Complete {
            return Ok((body, ending));
        }
        reader.read_line(&mut line)?;
        if length == 0 {
            return Ok((body, Ending::Complete));
        }
    }
}

/// GET from 127.0.0.1.
pub(crate) fn get(port: u16, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
    Exchange::start(port, "GET", path, headers)?.finish()
}

/// HEAD from 127.0.0.1.
pub(crate) fn head(port: u16, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
    Exchange::start(port, "HEAD", path, headers)?.finish()
}
