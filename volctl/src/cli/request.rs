//! `volctl request` and `volctl requests`.

use super::Context;
use super::args::RequestArgs;
use super::status::request_lines;
use crate::wire::call::{Call, RequestCall, RequestReply, RequestsReply};
use crate::wire::client::decode_reply;
use crate::wire::outcome::{Failure, one_line};

/// `volctl request`: with `--wait` each step is a line, the last one says where it is mounted.
///
/// # Errors
/// The daemon's [`Failure`]: 3 refused, 4 when only the waiting ended; or exit 7.
pub fn run(args: RequestArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let wait_ms = args.wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    let call = Call::Request(RequestCall { volume: args.volume, message: args.message.unwrap_or_default(), wait_ms });
    let mut client = context.connect()?;
    let last = if wait_ms.is_some() {
        client.call_more(&call, |value| {
            show(&decode_reply(value)?, context);
            // Its exit code counts even when nobody reads the steps.
            Ok(true)
        })?
    } else {
        Some(client.call(&call)?)
    };
    if let Some(value) = last {
        show(&decode_reply(value)?, context);
    }
    Ok(())
}

fn show(reply: &RequestReply, context: &mut Context<'_>) {
    context.ui.show(reply, |reply| one_line(&reply.text));
}

/// `volctl requests`: what is open, and how to answer it.
///
/// # Errors
/// The daemon's [`Failure`], or exit 7.
pub fn list(context: &mut Context<'_>) -> Result<(), Failure> {
    let reply: RequestsReply = context.connect()?.call_as(&Call::Requests)?;
    context.ui.show(&reply, |reply| {
        if reply.requests.is_empty() { "no open requests".to_owned() } else { request_lines(&reply.requests) }
    });
    Ok(())
}
