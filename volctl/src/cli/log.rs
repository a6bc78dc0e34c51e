//! `volctl log`: what happened, one event a line.

use chrono::{DateTime, Local};

use super::Context;
use super::args::LogArgs;
use crate::wire::call::{Call, LogCall};
use crate::wire::client::decode_reply;
use crate::wire::event::{EventRecord, LogReply};
use crate::wire::outcome::{Failure, one_line};

/// Prints the events, and with `-f` goes on until it is interrupted or nobody reads.
///
/// # Errors
/// The daemon's [`Failure`], or exit 7, also when the daemon ends meanwhile.
pub fn run(args: &LogArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let call = Call::Log(LogCall { follow: args.follow });
    let mut client = context.connect()?;
    let last = if args.follow {
        client.call_more(&call, |value| {
            show(&decode_reply(value)?, context);
            Ok(!context.ui.is_closed())
        })?
    } else {
        Some(client.call(&call)?)
    };
    if let Some(value) = last {
        show(&decode_reply(value)?, context);
    }
    Ok(())
}

fn show(reply: &LogReply, context: &mut Context<'_>) {
    for event in &reply.events {
        context.ui.show(event, line);
    }
}

/// One event for people, in local time.
fn line(event: &EventRecord) -> String {
    let time = DateTime::parse_from_rfc3339(&event.time).map_or_else(
        |_| event.time.clone(),
        |time| time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S%.3f").to_string(),
    );
    let volume = event.volume.as_ref().map_or_else(String::new, |volume| format!("{volume}: "));
    one_line(&format!("{time}  {:<22} {volume}{}", event.event, event.text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::EventName;

    #[test]
    fn an_event_is_one_safe_line() {
        let mut event = EventRecord::new(EventName::RequestReceived, "bob asks: \"a\nb\x1b[2J\"").volume("footage");
        event.time = "not a time".to_owned();
        assert_eq!(line(&event), "not a time  request.received       footage: bob asks: \"a b\u{fffd}[2J\"");
    }
}
