// What the proxy is told: the part of SimIo that follows each completion when it is handed over.
#include <algorithm>
#include <cerrno>

#include "sim_io.h"

namespace ringmain::sim {

Completion SimIo::TakeCompletion() {
  Posted posted = posted_.front();
  posted_.pop_front();
  OnHandled(posted);
  return posted.completion;
}

void SimIo::OnHandled(const Posted& posted) {
  out_of_files_ = false;
  if (posted.poll) return;  // tells nothing for certain
  const Completion& completion = posted.completion;
  SimSession* found = FindSession(completion.token);
  if (found == nullptr || found->closed) return;
  SimSession& session = *found;
  if (completion.token.op == Op::kConnect) {
    OnConnectHandled(session, completion.result);
    return;
  }
  SimSocket& socket = *SocketOf(session, completion.token.op);
  if (!socket.is_client && (socket.ended() || socket.error_handled()) && socket.accepted <= socket.lead.size()) session.undecided_until = now_;
  if (IsReceive(completion.token.op))
    OnReceiveHandled(socket, completion.result);
  else
    OnSendHandled(socket, completion.result);
  if (completion.result > 0) NoteByte(IsReceive(completion.token.op) ? socket : *session.other(socket));
}

void SimIo::NoteByte(const SimSocket& source) {
  SimSession& session = *source.session;
  if (!session.closing) session.last_byte_at = session.side_active_at[source.is_client ? 0 : 1] = now_;
}

void SimIo::OnReceiveHandled(SimSocket& socket, int result) {
  SimSession& session = *socket.session;
  if (result > 0) {
    if (!socket.is_client && socket.received_handled == 0 && !session.closing) session.first_byte_at = now_;
    socket.received_handled += static_cast<uint64_t>(result);
    if (!session.closing) session.last_received_at = now_;
  } else if (result == 0) {
    socket.eof_handled = true;
    if (socket.header_optional && !ParseProxyHeader(StreamOf(socket, std::min<uint64_t>(socket.received_handled, kMostProxyHeader))).begun) NoteNoHeader(socket);
    const SimSocket* other = session.other(socket);
    if (other == nullptr || !other->ended()) session.client_ended_first = socket.is_client;
    if (socket.is_client) session.client_ended_at = now_;
    NoteHalfClosed(session);
    socket.is_client ? void(session.owes_another = false) : NoteUseless(session);
  } else if (result != -ENOBUFS && result != -ECANCELED) {
    socket.receive_error_handled = true;
    NoteHalfClosed(session);
    socket.is_client ? void(session.owes_another = false) : NoteUseless(session);
  }
}

void SimIo::OnSendHandled(SimSocket& socket, int result) {
  if (result > 0) {
    socket.sent_handled += static_cast<uint64_t>(result);
  } else if (result != -EAGAIN && result != -ENOBUFS && result != -ECANCELED) {
    socket.send_error_handled = true;
    NoteHalfClosed(*socket.session);
  }
}

void SimIo::OnConnectHandled(SimSession& session, int result) {
  if (frozen_ && !session.connect_timed_out && !session.closing && (result == -ECANCELED || result == -EADDRNOTAVAIL)) {
    session.tried.pop_back();  // as if it had not begun
    session.gave_up = true;
    return;
  }
  if (result == 0 && session.server->script.is_the_proxy) result = -ECONNREFUSED;
  if (result == -EADDRNOTAVAIL && !session.closing && !session.connect_timed_out)
    no_port_at_[{session.server->server, session.server->source}] = now_;
  session.last_connect_result = result;
  session.established = result == 0 && !session.closing;
  if (session.established) session.server->lead = options_.lead(*session.client);
  session.connected_at = now_;
  session.last_byte_at = session.last_received_at = now_;
  session.side_active_at = {now_, now_};
}

// A direction is over: quiet is counted from here.
void SimIo::NoteHalfClosed(SimSession& session) {
  if (session.closing) return;
  if (!session.half_closed) session.half_closed_at = now_;
  session.half_closed = true;
  session.last_byte_at = now_;
}

}  // namespace ringmain::sim
