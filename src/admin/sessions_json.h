// Live sessions, asked for and in JSON: /api/v1/sessions. Pure, any thread.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "admin/admin_server.h"
#include "metrics/session_list.h"

namespace ringmain {

// The query of GET /api/v1/sessions. `most` is one more than a page has: whether there is another. Errors: InvalidArgument with a sentence.
absl::StatusOr<SessionQuery> ParseSessionQuery(std::string_view query);
// The body of the answer: of `list`, what the query asks for but the one more.
std::string RenderSessionsJson(const SessionQuery& query, const SessionList& list);

// The body of POST /api/v1/sessions/close: the number of a session. Errors: as above.
absl::StatusOr<uint64_t> ParseSessionToClose(std::string_view body);
// The body of the answer.
std::string RenderClosingJson(uint64_t number, const ClosingResult& result);

// One session on one line, and the list of them, each on a line of its own after `indent`: one tree of thousands of sessions would take many
// times the memory.
std::string RenderSession(const SessionRecord& session);
void AppendSessionList(const std::vector<SessionRecord>& sessions, std::string_view indent, std::string& text);

}  // namespace ringmain
