//! One connection: reads requests, asks the door and the rules, and relays the registry's answer.

use std::io::{BufReader, Error, Read as _, Result, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::door::Verdict;
use super::{Fault, Seen, Shared};
use crate::harness::http::{Head, read_body};

/// Bytes relayed at a time.
const CHUNK: usize = 16 * 1024;
/// Longest silence of either side.
const SILENCE: Duration = Duration::from_secs(60);

/// Serves a connection until either side has had enough.
pub(super) fn connection(shared: &Shared, stream: TcpStream) {
    // An error here is the client's leaving, or the registry's: the body ends short and the connection closes.
    let _ = try_connection(shared, stream);
}

fn try_connection(shared: &Shared, stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Head::read(&mut reader)? {
        let entry = note(shared, &request);
        if !answer(shared, &request, entry, &mut writer)? {
            break;
        }
    }
    Ok(())
}

fn note(shared: &Shared, request: &Head) -> usize {
    let header = |name: &str| request.header(name).map(str::to_owned);
    let mut seen = shared.seen();
    seen.push(Seen {
        method: method_of(request).to_owned(),
        path: request.second_word().to_owned(),
        authorization: header("authorization"),
        user_agent: header("user-agent").unwrap_or_default(),
        range: header("range"),
        status: 0,
        bytes: 0,
    });
    seen.len() - 1
}

fn method_of(request: &Head) -> &str {
    request.first.split(' ').next().unwrap_or_default()
}

/// Answers one request; whether the connection can be used again.
fn answer(shared: &Shared, request: &Head, entry: usize, writer: &mut TcpStream) -> Result<bool> {
    let (method, path) = (method_of(request), request.second_word());
    let reply = |writer: &mut TcpStream, status: u16, headers: &[(String, String)], body: &str| {
        shared.seen()[entry].status = status;
        write_head(writer, status, headers, body.len() as u64)?;
        if method != "HEAD" {
            writer.write_all(body.as_bytes())?;
        }
        Ok(true)
    };
    match shared.door.judge(shared.port, path, request.header("authorization")) {
        Verdict::Enter => {}
        Verdict::Challenge(challenge) => {
            let headers = [("www-authenticate".to_owned(), challenge)];
            return reply(writer, 401, &headers, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#);
        }
        Verdict::Token(token) => {
            let headers = [("content-type".to_owned(), "application/json".to_owned())];
            return reply(writer, 200, &headers, &format!(r#"{{"token":"{token}","expires_in":300}}"#));
        }
    }
    match shared.fault_for(method, path, request.header("user-agent").unwrap_or_default()) {
        Some(Fault::Status(status, headers)) => reply(writer, status, &headers, r#"{"errors":[{"code":"UNKNOWN"}]}"#),
        Some(Fault::Redirect(base)) => reply(writer, 307, &[("location".to_owned(), format!("{base}{path}"))], ""),
        fault => relay(shared, request, entry, fault, writer),
    }
}

fn write_head(writer: &mut TcpStream, status: u16, headers: &[(String, String)], length: u64) -> Result<()> {
    let mut head = format!("HTTP/1.1 {status} Status\r\ncontent-length: {length}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    writer.write_all(head.as_bytes())
}

fn relay(shared: &Shared, request: &Head, entry: usize, fault: Option<Fault>, writer: &mut TcpStream) -> Result<bool> {
    if let Some(Fault::Late(delay)) = fault {
        std::thread::sleep(delay);
    }
    let (mut upstream, response) = forward(shared, request)?;
    let status = response.second_word().parse().map_err(|_| Error::other("the registry's status is no number"))?;
    shared.seen()[entry].status = status;
    let mut headers = response.headers.clone();
    headers.retain(|(name, _)| !matches!(name.as_str(), "content-length" | "connection" | "transfer-encoding"));

    if method_of(request) == "HEAD" {
        write_head(writer, status, &headers, response.content_length().unwrap_or(0))?;
        return Ok(true);
    }
    let Some(length) = response.content_length() else {
        let (body, _) = read_body(&mut upstream, None)?;
        write_head(writer, status, &headers, body.len() as u64)?;
        writer.write_all(&body)?;
        return Ok(true);
    };
    write_head(writer, status, &headers, length)?;
    let paced = request.second_word().contains("/blobs/");
    let mut sent = 0;
    let mut buffer = vec![0; CHUNK];
    while sent < length {
        let wanted = match fault {
            Some(Fault::Stall(after)) if sent >= after => {
                shared.pace.stall();
                return Ok(false);
            }
            Some(Fault::Short(after)) if sent >= after => return Ok(false),
            Some(Fault::Stall(after) | Fault::Short(after)) => after - sent,
            _ => length - sent,
        };
        let wanted = wanted.min(length - sent).min(CHUNK as u64);
        let granted = if paced { shared.pace.reserve(wanted) } else { Some(wanted) };
        let Some(granted) = granted else { return Ok(false) };
        let chunk = &mut buffer[..granted as usize];
        upstream.read_exact(chunk)?;
        if let Some(Fault::Corrupt(at)) = fault
            && (sent..sent + granted).contains(&at)
        {
            chunk[(at - sent) as usize] ^= 0x55;
        }
        if let Err(error) = writer.write_all(chunk) {
            if paced {
                shared.pace.give_back(granted);
            }
            return Err(error);
        }
        sent += granted;
        shared.seen()[entry].bytes = sent;
    }
    Ok(true)
}

/// Asks the registry, in HTTP/1.0 so that it sends no chunks, without the credential that was for the door.
fn forward(shared: &Shared, request: &Head) -> Result<(BufReader<TcpStream>, Head)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.upstream))?;
    stream.set_read_timeout(Some(SILENCE))?;
    let mut text = format!("{} {} HTTP/1.0\r\n", method_of(request), request.second_word());
    for (name, value) in &request.headers {
        if !matches!(name.as_str(), "authorization" | "connection" | "transfer-encoding") {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let response = Head::read(&mut reader)?.ok_or_else(|| Error::other("the registry closed without an answer"))?;
    Ok((reader, response))
}
