//! The verbs that act on one volume and are then done.

use super::Context;
use super::args::{AnswerArgs, TakeoverArgs, VolumeArgs};
use crate::wire::call::{ActReply, AnswerCall, Call, TakeoverCall, VolumeCall};
use crate::wire::client::decode_reply;
use crate::wire::outcome::{Failure, one_line};

fn act(call: &Call, context: &mut Context<'_>) -> Result<(), Failure> {
    let reply: ActReply = context.connect()?.call_as(call)?;
    show(&reply, context);
    Ok(())
}

fn show(reply: &ActReply, context: &mut Context<'_>) {
    context.ui.show(reply, |reply| one_line(&reply.text));
}

fn volume(args: VolumeArgs) -> VolumeCall {
    VolumeCall { volume: args.volume }
}

/// `volctl withdraw`.
///
/// # Errors
/// The daemon's [`Failure`], or exit 7.
pub fn withdraw(args: VolumeArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    act(&Call::Withdraw(volume(args)), context)
}

/// `volctl answer`.
///
/// # Errors
/// The daemon's [`Failure`], or exit 7.
pub fn answer(args: AnswerArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let AnswerArgs { volume, client, answer, message } = args;
    let message = message.unwrap_or_default();
    act(&Call::Answer(AnswerCall { volume, client, answer, message }), context)
}

/// `volctl release`.
///
/// # Errors
/// The daemon's [`Failure`], or exit 7.
pub fn release(args: VolumeArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    act(&Call::Release(volume(args)), context)
}

/// `volctl refresh`.
///
/// # Errors
/// The daemon's [`Failure`], or exit 7.
pub fn refresh(args: VolumeArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    act(&Call::Refresh(volume(args)), context)
}

/// `volctl mount`.
///
/// # Errors
/// The daemon's [`Failure`], or exit 7.
pub fn mount(args: VolumeArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    act(&Call::Mount(volume(args)), context)
}

/// `volctl unmount`.
///
/// # Errors
/// The daemon's [`Failure`], or exit 7.
pub fn unmount(args: VolumeArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    act(&Call::Unmount(volume(args)), context)
}

/// `volctl takeover`: each step of the wait is a line of its own.
///
/// # Errors
/// The daemon's [`Failure`], or exit 7.
pub fn takeover(args: TakeoverArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let call = Call::Takeover(TakeoverCall { volume: args.volume, yes_i_know: args.yes_i_know });
    let last = context.connect()?.call_more(&call, |value| {
        let step: ActReply = decode_reply(value)?;
        show(&step, context);
        // It goes on in the daemon whether or not anybody reads; so wait for its end.
        Ok(true)
    })?;
    if let Some(value) = last {
        show(&decode_reply(value)?, context);
    }
    Ok(())
}
