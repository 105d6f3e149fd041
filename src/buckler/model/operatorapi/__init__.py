"""What people's tools and a controller say to each other: the bodies of ``/api/v1`` on the root-only unix socket.

Owns their form only; documents inside are the language of buckler.policy. All under ``/api/v1``; names in JSON are
camelCase. ``{vm}`` is a VM's name in ``?tenant=`` (default: ``default``) or its Buckler id; ``{host}`` a host's name or id.

=======  ===================================  ==================================================================
method   path                                 body or query → answer
=======  ===================================  ==================================================================
POST     /apply                               ApplyRequest → ApplyResult, or 422 Problem with every problem
POST     /diff                                ApplyRequest (dryRun, wait ignored) → DiffResult, or 422
GET      /documents                           kind, tenant, selector (``a=b,c!=d,e``) → tuple[DocumentItem]
GET      /documents/{kind}/{tenant}/{name}    → DocumentItem, header ETag
DELETE   /documents/{kind}/{tenant}/{name}    dryRun=, If-Match → ApplyResult (412 when another changed it)
PATCH    /documents/{kind}/{tenant}/{name}/labels  LabelRequest, If-Match → ApplyResult
GET      /vms                                 tenant, selector → tuple[VmView]
POST     /vms/adopt                           AdoptRequest → VmView (409 when the uuid is registered already)
GET      /vms/{vm}                            → VmView
GET      /vms/{vm}/passport                   → PassportView
GET      /vms/{vm}/history                    limit= → tuple[HistoryEntry], oldest first
GET      /vms/{vm}/policy                     at= (Unix seconds, 0: all times), host= → tuple[BoundPolicy], oldest first
GET      /vms/{vm}/samples                    since (Unix time), limit → tuple[SampleItem], oldest first
GET      /load                                tenant, seconds → tuple[VmLoad]
POST     /vms/{vm}/quarantine, …/release      QuarantineRequest → VmView
POST     /vms/{vm}/migrate                    MigrateRequest → TaskView (state ``done`` at once when dryRun)
GET      /hosts, /hosts/{host}                → tuple[HostView], HostView
POST     /hosts/{host}/drain, …/undrain, …/revoke  HostRequest → HostChange
POST     /join-tokens                         JoinTokenRequest → JoinToken
GET      /explain                             from, to, protocol, port → Explanation
GET      /reach                               tenant; from, to (a VM, an endpoint, ``host``, ``world``, an address or prefix) → Reach
GET      /flows                               verdict, from, to, after, limit, follow → tuple[FlowItem], oldest first (without
                                              ``after`` the newest ``limit`` of all);
                                              with ``follow=true`` newline-delimited FlowItem (empty line: heartbeat)
GET      /counters                            verdict, from, to → tuple[CounterItem]: totals per rule and pair of ends
GET      /tasks, /tasks/{id}                  → tuple[TaskView], TaskView
GET      /status                              → PoolStatus
GET      /unprotected                         → tuple[Unprotected]
GET      /rogues                              → tuple[Rogue]
GET      /ledger/entries                      after (number), limit → LedgerPage
GET      /ledger/entries/{number}/proof       → EntryProof under the newest checkpoint
GET      /ledger/checkpoint                   → LedgerCheckpoint with what hosts cosigned
GET      /ledger/keys                         → LedgerKeys: what a verifier needs beside the entries
GET      /metrics                             → Prometheus text
GET      /openapi.json                        → OpenAPI 3.1
=======  ===================================  ==================================================================

Errors are RFC 9457 problems (``application/problem+json``): Problem. 400 malformed request, 404 unknown name, 409 refused
because of the state of the pool, 412 If-Match did not fit, 422 documents with problems: nothing was applied.
"""

SOCKET = "/run/buckler/api.sock"
PREFIX = "/api/v1"
