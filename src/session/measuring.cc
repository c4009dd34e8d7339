// What is noted of a session at its turning points, to be told later; never per message.
#include <algorithm>

#include "session/sessions.h"

namespace ringmain {

// In the turn in which it is passed on.
void Sessions::NoteFirstByte(Session& session) { session.first_byte_at = io_.Now(); }

// It is served, or will not be.
void Sessions::EndWait(Session& session, TimePoint now) {
  LeaveQueue(session);
  session.queued_ms += static_cast<uint32_t>(std::clamp<int64_t>((now - session.connect_started_at) / milliseconds(1), 0, UINT32_MAX - session.queued_ms));
}

}  // namespace ringmain
