// The PROXY protocol header of a client, which is read before a server is chosen, and the one that a server is sent before the client's first byte.
//
// What comes of a client's header is taken off its relay's queue at once, so that a client that is slow with it holds no buffer, and counts as
// never received; what is behind it stays queued. A header for a server is put in front of the queue and goes out with it: the relay counts it as
// if the client had sent it, and Session::lead says how much of that is so. While no more than that was sent, the server has no byte of the client.
#include <algorithm>
#include <string>
#include <utility>

#include "session/sessions.h"

namespace ringmain {

// ---- From clients ----

// True if the session waits for a header, or is closed since its client may not send one.
bool Sessions::ExpectHeader(Session& session) {
  const ProxyProtocolConfig& rules = session.route->proxy_protocol;
  bool optional = rules.accept == ProxyProtocolAccept::kOptional;
  if (!rules.from.empty()) {
    std::optional<SocketAddress> peer = io_.PeerAddress(session.client_fd);
    bool trusted = peer.has_value() && std::any_of(rules.from.begin(), rules.from.end(),
                                                   [&](const Network& network) { return network.Contains(*peer); });
    if (!trusted && optional) return false;
    if (!trusted) {
      RefuseHeader(session, peer.has_value() ? CloseReason::kProxyProtocol : CloseReason::kClientLeft, "its address is not in proxy_protocol.from");
      return true;
    }
  }
  session.state = SessionState::kReadingHeader;
  session.has_header = true;
  headers_[session.index] = {.optional = optional};
  ScheduleHeaderTimer(session);
  return true;
}

// Something has come. False if the session is in another state now, or gone.
bool Sessions::ReadHeader(Session& session) {
  Relay& relay = session.relay(Direction::kToServer);
  if (relay.queued() == 0) return true;
  ClientHeader& client = headers_.at(session.index);
  std::string bytes = client.bytes;
  relay.Peek(kMostProxyHeader - std::min(bytes.size(), kMostProxyHeader), bytes);
  ParsedProxyHeader parsed = ParseProxyHeader(bytes);
  switch (parsed.result) {
    case ParsedProxyHeader::Result::kNeedsMore:
      relay.Withdraw(relay.queued());
      client.bytes = std::move(bytes);
      return true;
    case ParsedProxyHeader::Result::kNone:
      if (!client.optional)
        RefuseHeader(session, CloseReason::kProxyProtocol, "it does not begin like one");
      else if (TakeForPayload(session))
        StartConnect(session, CloseReason::kNoServer);
      return false;
    case ParsedProxyHeader::Result::kMalformed:
      RefuseHeader(session, CloseReason::kProxyProtocol, parsed.why);
      return false;
    case ParsedProxyHeader::Result::kComplete:
      break;
  }
  relay.Withdraw(static_cast<uint32_t>(parsed.length - client.bytes.size()));
  timers_.Cancel(session);
  session.state = SessionState::kConnecting;
  client.bytes.clear();
  client.header = std::move(parsed.header);
  bool says_nothing = !client.header.source.has_value() && client.header.tlvs.empty() && !client.header.checksum;
  if (says_nothing) DropHeader(session);
  Touch(session);
  StartConnect(session, CloseReason::kNoServer);
  return false;
}

// Whether what has come so far, if that is all, is no header that was begun.
bool Sessions::MayBePayload(const Session& session) const {
  const ClientHeader& client = headers_.at(session.index);
  return client.optional && !ParseProxyHeader(client.bytes).begun;
}

// There is no header. False if there was no memory to go on, and the session is closed.
bool Sessions::TakeForPayload(Session& session) {
  std::string bytes = std::move(headers_.at(session.index).bytes);
  DropHeader(session);
  timers_.Cancel(session);
  session.state = SessionState::kConnecting;
  Touch(session);
  if (session.relay(Direction::kToServer).Prepend(bytes)) return true;
  Close(session, CloseReason::kError);
  return false;
}

void Sessions::OnHeaderCutOff(Session& session, bool reset) {
  if (!reset && MayBePayload(session)) {
    if (!TakeForPayload(session)) return;
    OnSourceEnded(session, Direction::kToServer, /*reset=*/false);
    StartConnect(session, CloseReason::kNoServer);
  } else if (headers_.at(session.index).bytes.empty()) {
    Close(session, CloseReason::kClientLeft);
  } else {
    RefuseHeader(session, CloseReason::kProxyProtocol, "the client's stream ended within it");
  }
}

// A client that waits for what the server says first sends nothing, also no header if it needs none.
void Sessions::OnHeaderLate(Session& session) {
  if (!MayBePayload(session))
    RefuseHeader(session, CloseReason::kProxyProtocolTimeout, "it was not complete in time");
  else if (TakeForPayload(session))
    StartConnect(session, CloseReason::kNoServer);
}

void Sessions::RefuseHeader(Session& session, CloseReason reason, std::string_view why) {
  if (reason != CloseReason::kClientLeft) observer_.OnHeaderRefused(*session.route, io_.PeerAddress(session.client_fd), why);
  Close(session, reason);
}

void Sessions::DropHeader(Session& session) {
  if (!session.has_header) return;
  session.has_header = false;
  headers_.erase(session.index);
}

// Whom the client is, by its header if it has one; none if it is gone.
std::optional<SocketAddress> Sessions::ClientAddress(const Session& session) {
  if (session.has_header)
    if (const ClientHeader& client = headers_.at(session.index); client.header.source.has_value()) return client.header.source;
  return io_.PeerAddress(session.client_fd);
}

// ---- To servers ----

// As the first bytes of an established session, whether the client has sent some or not.
void Sessions::SendHeader(Session& session) {
  std::string bytes = ComposeProxyHeader(HeaderFor(session));
  session.lead = static_cast<uint16_t>(bytes.size());
  if (!session.relay(Direction::kToServer).Prepend(bytes)) Close(session, CloseReason::kError);
}

// What the client's header says is passed on. Without one, the addresses are those of its connection, but for a unix one, which says nothing.
ProxyHeader Sessions::HeaderFor(const Session& session) {
  ProxyHeader header;
  if (session.has_header) header = headers_.at(session.index).header;
  header.version = session.route->send_proxy_protocol == ProxyProtocolSend::kV1 ? 1 : 2;
  if (header.source.has_value()) return header;
  std::optional<SocketAddress> peer = io_.PeerAddress(session.client_fd), local = io_.LocalAddress(session.client_fd);
  if (!peer.has_value() || !local.has_value() || peer->is_unix() || peer->family() != local->family()) return header;
  header.source = peer;
  header.destination = local;
  return header;
}

}  // namespace ringmain
