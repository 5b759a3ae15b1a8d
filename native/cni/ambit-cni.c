// SPDX-License-Identifier: Apache-2.0
/*
 * The CNI plugin of Ambit, chained behind a cluster's own (CNI specification 0.3.0 to 1.1.0). It asks the node's
 * agent over a Unix socket and holds no logic of its own but the fail-closed rule: without the agent's answer a pod
 * starts only where it is none of the mesh's, by what the agent has written down (members.h). The result of the
 * plugins before it goes on unchanged.
 */
#include "agent-call.h"
#include "json.h"
#include "members.h"
#include "orphan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Configurations are some KiB; prevResult of many interfaces some tens. */
#define LARGEST_CONFIG (1024 * 1024)
#define LARGEST_REPLY (64 * 1024)
/* Of one environment variable; Linux paths are at most 4096. */
#define LARGEST_VARIABLE 4096
#define LONGEST_NAME 254
/* The agent's own deadline for an enrolment is 10 s, after which it says so; kubelet's for a sandbox is minutes. */
#define DEFAULT_TIMEOUT_MS 12000
/*
 * For a namespace that is not in the mesh by what the agent has written down: an agent that takes calls and answers none
 * must not hold up the whole node. More than the agent's own deadline for the API server (agent/enrolment/).
 */
#define PLAIN_TIMEOUT_MS 8000
/* Nothing depends on the answer to DEL: do not hold up a node that is being drained. */
#define DELETE_TIMEOUT_MS 5000
/* Runtimes ask every few seconds, and call the node not ready when there is no answer. */
#define STATUS_TIMEOUT_MS 2000
/* The agent confirms its file every minute. Without that, and without a pod, it is gone. */
#define ORPHANED_AFTER_S 600
#define STDIN_TIMEOUT_MS 10000

/* Error codes of the CNI specification. */
enum {
	CNI_INCOMPATIBLE_VERSION = 1,
	CNI_INVALID_ENVIRONMENT = 4,
	CNI_IO_FAILURE = 5,
	CNI_DECODING_FAILURE = 6,
	CNI_INVALID_CONFIG = 7,
	CNI_TRY_AGAIN = 11,
	CNI_NOT_AVAILABLE = 50,
};

struct call {
	const char *command;
	const char *container_id;
	const char *netns;
	const char *ifname;
	char pod_namespace[LONGEST_NAME];
	char pod_name[LONGEST_NAME];
	char pod_uid[LONGEST_NAME];
	struct span config;
	char cni_version[16];
	char socket_path[LONGEST_NAME];
	/* The agent's file of namespaces; empty in configurations of earlier agents. */
	char members_path[LONGEST_NAME];
	/* Where the kubelet keeps pods' logs, and how those of agents begin; empty for an agent that no DaemonSet runs. */
	char pod_logs[LONGEST_NAME];
	char agent_pods[2 * LONGEST_NAME];
	unsigned int timeout_ms;
	bool has_previous_result;
	struct span previous_result;
};

static const char *const SUPPORTED_VERSIONS[] = { "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0" };
#define SUPPORTED_VERSION_COUNT (sizeof(SUPPORTED_VERSIONS) / sizeof(SUPPORTED_VERSIONS[0]))

static char config_buffer[LARGEST_CONFIG];
static char reply_buffer[LARGEST_REPLY];
static char request_buffer[LARGEST_CONFIG + 16 * LARGEST_VARIABLE];
static char members_buffer[LARGEST_MEMBERS];

static void print_escaped(FILE *stream, const char *text)
{
	for (; *text; text++) {
		unsigned char byte = (unsigned char)*text;

		if (byte == '"' || byte == '\\')
			fprintf(stream, "\\%c", byte);
		else if (byte < 0x20)
			fprintf(stream, "\\u%04x", byte);
		else
			fputc(byte, stream);
	}
}

static bool is(const struct call *call, const char *command)
{
	return strcmp(call->command, command) == 0;
}

/* Prints a CNI error object and gives the exit code. */
static int fail(const struct call *call, int code, const char *message, const char *details)
{
	const char *version = call->cni_version[0] ? call->cni_version : "1.0.0";

	printf("{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"", version, code);
	print_escaped(stdout, message);
	printf("\",\"details\":\"");
	print_escaped(stdout, details);
	printf("\"}\n");
	return 1;
}

static int pass_on(const struct call *call)
{
	size_t length = call->previous_result.length;

	if (fwrite(call->previous_result.start, 1, length, stdout) != length ||
	    fputc('\n', stdout) == EOF || fflush(stdout) == EOF)
		return 1;
	return 0;
}

/* Letters, digits, dots and dashes: what names of Kubernetes objects, and uids, are made of. */
static bool take_name(const char *text, size_t length, char *out)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";

	if (length >= LONGEST_NAME || strspn(text, allowed) < length)
		return false;
	memcpy(out, text, length);
	out[length] = '\0';
	return true;
}

/* CNI_ARGS is "KEY=value;KEY=value". Kubernetes' runtimes say there which pod it is. */
static bool read_arguments(struct call *call, const char *arguments)
{
	const struct {
		const char *key;
		char *out;
	} wanted[] = {
		{ "K8S_POD_NAMESPACE=", call->pod_namespace },
		{ "K8S_POD_NAME=", call->pod_name },
		{ "K8S_POD_UID=", call->pod_uid },
	};

	while (*arguments) {
		size_t length = strcspn(arguments, ";");

		for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
			size_t key_length = strlen(wanted[i].key);

			if (length >= key_length &&
			    memcmp(arguments, wanted[i].key, key_length) == 0 &&
			    !take_name(arguments + key_length, length - key_length, wanted[i].out))
				return false;
		}
		arguments += length;
		if (*arguments == ';')
			arguments++;
	}
	return true;
}

/* The variable, or NULL when it is unset, empty or too long. */
static const char *variable(const char *name)
{
	const char *value = getenv(name);

	return value && *value && strlen(value) < LARGEST_VARIABLE ? value : NULL;
}

static const char *missing_variable(struct call *call)
{
	bool is_delete = is(call, "DEL");

	call->container_id = variable("CNI_CONTAINERID");
	call->netns = variable("CNI_NETNS");
	call->ifname = variable("CNI_IFNAME");
	if (!call->container_id)
		return "CNI_CONTAINERID";
	if (!call->netns && !is_delete)
		return "CNI_NETNS";
	if (!call->ifname)
		return "CNI_IFNAME";
	return NULL;
}

/* Reads stdin into call->config; 0 or the exit code. */
static int read_config(struct call *call)
{
	struct span value;
	long length = read_until_end(STDIN_FILENO, config_buffer, sizeof(config_buffer),
				     now_ms() + STDIN_TIMEOUT_MS);

	if (length == -2)
		return fail(call, CNI_DECODING_FAILURE, "Cannot read the network configuration",
			    "it is larger than 1 MiB");
	if (length < 0)
		return fail(call, CNI_IO_FAILURE, "Cannot read the network configuration",
			    "standard input did not end in time or failed");
	call->config = (struct span){ config_buffer, (size_t)length };
	if (!json_is_object(call->config))
		return fail(call, CNI_DECODING_FAILURE, "Cannot read the network configuration",
			    "standard input is not one JSON object");
	if (!json_member(call->config, "cniVersion", &value) ||
	    !json_string(value, call->cni_version, sizeof(call->cni_version)) ||
	    !call->cni_version[0]) {
		call->cni_version[0] = '\0';
		return fail(call, CNI_INVALID_CONFIG, "Cannot use the network configuration",
			    "field cniVersion is missing or no version");
	}
	return 0;
}

/* An optional string; empty where it is not there or cannot be used: the rule that needs it is then the strictest. */
static void read_optional(const struct call *call, const char *name, char *out, size_t size)
{
	struct span value;

	if (!json_member(call->config, name, &value) || !json_string(value, out, size))
		out[0] = '\0';
}

/* Reads the fields of the configuration; 0 or the exit code. */
static int read_fields(struct call *call)
{
	struct span value;
	bool is_supported = false;

	for (size_t i = 0; i < SUPPORTED_VERSION_COUNT; i++)
		is_supported |= strcmp(call->cni_version, SUPPORTED_VERSIONS[i]) == 0;
	if (!is_supported) {
		call->cni_version[0] = '\0';
		return fail(call, CNI_INCOMPATIBLE_VERSION, "Cannot use the network configuration",
			    "field cniVersion is none of 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0");
	}
	if (!json_member(call->config, "socket", &value) ||
	    !json_string(value, call->socket_path, sizeof(call->socket_path)) ||
	    call->socket_path[0] != '/')
		return fail(call, CNI_INVALID_CONFIG, "Cannot use the network configuration",
			    "field socket is missing or no absolute path");
	call->timeout_ms = DEFAULT_TIMEOUT_MS;
	if (json_member(call->config, "timeoutMs", &value) &&
	    (!json_unsigned(value, &call->timeout_ms) || call->timeout_ms == 0))
		return fail(call, CNI_INVALID_CONFIG, "Cannot use the network configuration",
			    "field timeoutMs is no number from 1 to 999999999");
	if (json_member(call->config, "excludeNamespaces", &value) && !json_is(value, '['))
		return fail(call, CNI_INVALID_CONFIG, "Cannot use the network configuration",
			    "field excludeNamespaces is no list");
	read_optional(call, "members", call->members_path, sizeof(call->members_path));
	read_optional(call, "podLogs", call->pod_logs, sizeof(call->pod_logs));
	read_optional(call, "agentPods", call->agent_pods, sizeof(call->agent_pods));
	call->has_previous_result =
		json_member(call->config, "prevResult", &call->previous_result) &&
		json_is(call->previous_result, '{');
	return 0;
}

static bool is_excluded(const struct call *call)
{
	struct span list, item;
	size_t offset = 0;
	char name[LONGEST_NAME];

	if (!json_member(call->config, "excludeNamespaces", &list))
		return false;
	while (json_next_item(list, &offset, &item))
		if (json_string(item, name, sizeof(name)) && strcmp(name, call->pod_namespace) == 0)
			return true;
	return false;
}

static struct span make_request(const struct call *call)
{
	const struct {
		const char *name;
		const char *value;
	} fields[] = {
		{ "command", call->command },
		{ "containerId", call->container_id },
		{ "netns", call->netns },
		{ "ifname", call->ifname },
		{ "podNamespace", call->pod_namespace },
		{ "podName", call->pod_name },
		{ "podUid", call->pod_uid },
	};
	FILE *stream = fmemopen(request_buffer, sizeof(request_buffer), "w");
	struct span request = { request_buffer, 0 };
	bool is_whole;
	long length;

	if (!stream)
		return request;
	fprintf(stream, "{\"protocol\":1");
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		fprintf(stream, ",\"%s\":\"", fields[i].name);
		print_escaped(stream, fields[i].value ? fields[i].value : "");
		fputc('"', stream);
	}
	fprintf(stream, ",\"config\":");
	fwrite(call->config.start, 1, call->config.length, stream);
	fputc('}', stream);
	is_whole = fflush(stream) == 0 && !ferror(stream);
	length = ftell(stream);
	fclose(stream);
	request.length = is_whole && length > 0 ? (size_t)length : 0;
	return request;
}

/* The agent's refusal, in the words and with the code it chose. */
static int refuse(const struct call *call, struct span reply)
{
	struct span code, message, details;
	unsigned int number;

	if (!json_member(reply, "code", &code) || !json_unsigned(code, &number) ||
	    !json_member(reply, "msg", &message) || !json_is(message, '"') ||
	    !json_member(reply, "details", &details) || !json_is(details, '"'))
		return fail(call, CNI_IO_FAILURE, "Cannot understand the Ambit agent",
			    "its answer has no code, msg and details");
	printf("{\"cniVersion\":\"%s\",\"code\":%u,\"msg\":%.*s,\"details\":%.*s}\n",
	       call->cni_version, number, (int)message.length, message.start, (int)details.length,
	       details.start);
	return 1;
}

enum answer {
	CONSENT,
	/* The error is printed. */
	REFUSAL,
	/* There is no answer, or the agent does not know either: `why` says more. */
	NO_DECISION,
};

struct decision {
	enum answer answer;
	char why[520];
};

/* The agent's words, where it says that it cannot tell whether the pod is one of the mesh's. */
static bool is_undecided(struct span reply, char *why, size_t size)
{
	struct span undecided, member;
	char message[256] = "", details[256] = "";

	if (!json_member(reply, "undecided", &undecided) || !json_is(undecided, 't'))
		return false;
	/* Words that do not fit are left out. */
	if (!json_member(reply, "msg", &member) || !json_string(member, message, sizeof(message)))
		snprintf(message, sizeof(message), "the agent cannot tell");
	if (!json_member(reply, "details", &member) || !json_string(member, details, sizeof(details)))
		details[0] = '\0';
	snprintf(why, size, "%s%s%s", message, details[0] ? ": " : "", details);
	return true;
}

static struct decision ask_agent(const struct call *call, unsigned int timeout_ms)
{
	struct decision decision = { .answer = NO_DECISION };
	struct span request = make_request(call);
	struct span reply, consent;
	const char *problem;

	if (request.length == 0) {
		fail(call, CNI_INVALID_CONFIG, "Cannot ask the Ambit agent", "the request is too long");
		decision.answer = REFUSAL;
		return decision;
	}
	problem = agent_call(call->socket_path, request, timeout_ms, reply_buffer,
			     sizeof(reply_buffer), &reply);
	if (problem) {
		snprintf(decision.why, sizeof(decision.why), "%s", problem);
	} else if (!json_is_object(reply) || !json_member(reply, "ok", &consent)) {
		snprintf(decision.why, sizeof(decision.why),
			 "the agent's answer is not the JSON object expected");
	} else if (json_is(consent, 't')) {
		decision.answer = CONSENT;
	} else if (!is_undecided(reply, decision.why, sizeof(decision.why))) {
		refuse(call, reply);
		decision.answer = REFUSAL;
	}
	return decision;
}

/* Reads what the agent wrote down; *out has a problem where that is of no use. */
static void read_members(const struct call *call, struct members *out)
{
	if (call->members_path[0]) {
		members_read(call->members_path, members_buffer, sizeof(members_buffer), out);
		return;
	}
	*out = (struct members){ .age_s = -1 };
	snprintf(out->problem, sizeof(out->problem), "%s",
		 "the configuration has no field members: it is an earlier agent's");
}

static bool is_orphaned(const struct call *call, const struct members *members)
{
	return members->age_s > ORPHANED_AFTER_S &&
	       agent_has_no_pod(call->pod_logs, call->agent_pods, call->pod_namespace, call->pod_name);
}

/* Where the agent's pods are, for people: the beginning of agent_pods. */
static struct span agent_namespace(const struct call *call)
{
	static const char usual[] = "ambit-system";
	size_t length = strcspn(call->agent_pods, "_");

	if (length == 0)
		return (struct span){ usual, strlen(usual) };
	return (struct span){ call->agent_pods, length };
}

/* ADD or CHECK of a pod of which the agent did not tell whether it is one of the mesh's; the exit code. */
static int decide_alone(const struct call *call, const struct members *members, const char *why)
{
	struct span mesh = agent_namespace(call);
	char details[2048];

	if (is_orphaned(call, members)) {
		fprintf(stderr,
			"ambit-cni: WARNING: the agent was taken off this node and left its CNI plugin behind: pod %s/%s "
			"starts WITHOUT the mesh, and so does every other. Remove ambit-cni from the CNI configuration, "
			"or install Ambit again.\n",
			call->pod_namespace, call->pod_name);
		return 0;
	}
	if (members->problem[0]) {
		snprintf(details, sizeof(details),
			 "%s; and which namespaces are in the mesh cannot be told by %s: %s. Until the agent is back only the "
			 "namespaces of excludeNamespaces start: kubectl get pods -n %.*s -o wide shows why it is away",
			 why, call->members_path[0] ? call->members_path : "a file", members->problem,
			 (int)mesh.length, mesh.start);
		return fail(call, CNI_TRY_AGAIN, "Cannot ask the Ambit agent", details);
	}
	if (members_have(members, call->pod_namespace)) {
		snprintf(details, sizeof(details),
			 "%s; and namespace %s has pods in the mesh, so that this one might be among them: it starts when the "
			 "agent is back. kubectl get pods -n %.*s -o wide shows why it is away",
			 why, call->pod_namespace, (int)mesh.length, mesh.start);
		return fail(call, CNI_TRY_AGAIN, "Cannot ask the Ambit agent", details);
	}
	fprintf(stderr,
		"ambit-cni: the Ambit agent did not say whether pod %s/%s is one of the mesh's (%s). Its namespace has none, by "
		"%s, confirmed %lld s ago: it starts without the mesh\n",
		call->pod_namespace, call->pod_name, why, call->members_path, members->age_s);
	return 0;
}

/* Whether the pod may start, or is as it was left; the exit code. */
static int decide(const struct call *call)
{
	struct members members;
	struct decision decision;
	unsigned int timeout_ms = call->timeout_ms;
	bool is_plain;

	read_members(call, &members);
	is_plain = !members.problem[0] && !members_have(&members, call->pod_namespace);
	if (is_plain && timeout_ms > PLAIN_TIMEOUT_MS)
		timeout_ms = PLAIN_TIMEOUT_MS;
	decision = ask_agent(call, timeout_ms);
	if (decision.answer == NO_DECISION)
		return decide_alone(call, &members, decision.why);
	return decision.answer == CONSENT ? 0 : 1;
}

/*
 * Whether ADD can be answered. A runtime that hears no takes the whole node for not ready: so without an agent it is
 * yes as long as pods outside the mesh can start.
 */
static int status(const struct call *call)
{
	unsigned int timeout_ms = call->timeout_ms;
	struct members members;
	struct decision decision;

	if (timeout_ms > STATUS_TIMEOUT_MS)
		timeout_ms = STATUS_TIMEOUT_MS;
	decision = ask_agent(call, timeout_ms);
	if (decision.answer != NO_DECISION)
		return decision.answer == CONSENT ? 0 : 1;
	read_members(call, &members);
	if (members.problem[0])
		return fail(call, CNI_NOT_AVAILABLE, "Cannot ask the Ambit agent", decision.why);
	fprintf(stderr, "ambit-cni: the Ambit agent is away (%s): only pods outside the mesh start\n",
		decision.why);
	return 0;
}

/* Deletion must always succeed, or pods could not be removed while the agent is away: it sweeps up later. */
static int delete(struct call *call)
{
	struct span request = make_request(call);
	struct span reply;
	const char *problem = "the request is too long";

	if (call->timeout_ms > DELETE_TIMEOUT_MS)
		call->timeout_ms = DELETE_TIMEOUT_MS;
	if (request.length > 0)
		problem = agent_call(call->socket_path, request, call->timeout_ms, reply_buffer,
				     sizeof(reply_buffer), &reply);
	if (problem)
		fprintf(stderr, "ambit-cni: Cannot tell the Ambit agent of a deletion: %s\n", problem);
	return 0;
}

static int print_versions(void)
{
	printf("{\"cniVersion\":\"%s\",\"supportedVersions\":[",
	       SUPPORTED_VERSIONS[SUPPORTED_VERSION_COUNT - 1]);
	for (size_t i = 0; i < SUPPORTED_VERSION_COUNT; i++)
		printf("%s\"%s\"", i ? "," : "", SUPPORTED_VERSIONS[i]);
	printf("]}\n");
	return 0;
}

/* ADD, CHECK and DEL: those that concern one container. */
static int handle_container(struct call *call)
{
	const char *arguments = getenv("CNI_ARGS");
	const char *missing = missing_variable(call);
	bool is_add = is(call, "ADD");
	int exit_code;

	if (missing)
		return fail(call, CNI_INVALID_ENVIRONMENT, "Cannot handle the call: a variable is unset or too long",
			    missing);
	/* Of whichever pod: it must go all the same, and the agent finds by itself what has gone. */
	if (!read_arguments(call, arguments ? arguments : ""))
		return is(call, "DEL") ?
			       0 :
			       fail(call, CNI_INVALID_ENVIRONMENT,
				    "Cannot handle the call: a pod's name in CNI_ARGS is none", arguments);
	if (!call->has_previous_result && !is(call, "DEL"))
		return fail(call, CNI_INVALID_CONFIG, "Cannot use the network configuration",
			    "field prevResult is missing: ambit-cni must be chained behind another plugin");
	/* Containers that no Kubernetes started are none of the mesh's. */
	if (!call->pod_namespace[0] && !call->pod_name[0])
		return is_add ? pass_on(call) : 0;
	if (!call->pod_namespace[0] || !call->pod_name[0])
		return is(call, "DEL") ?
			       0 :
			       fail(call, CNI_INVALID_ENVIRONMENT,
				    "Cannot handle the call: CNI_ARGS names half a pod", arguments);
	if (is_excluded(call))
		return is_add ? pass_on(call) : 0;
	if (is(call, "DEL"))
		return delete(call);
	exit_code = decide(call);
	return exit_code == 0 && is_add ? pass_on(call) : exit_code;
}

int main(void)
{
	static struct call call;
	int exit_code;

	call.command = variable("CNI_COMMAND");
	if (!call.command)
		return fail(&call, CNI_INVALID_ENVIRONMENT, "Cannot handle the call: a variable is unset or too long",
			    "CNI_COMMAND");
	if (is(&call, "VERSION"))
		return print_versions();
	if (!is(&call, "ADD") && !is(&call, "DEL") && !is(&call, "CHECK") && !is(&call, "STATUS") &&
	    !is(&call, "GC"))
		return fail(&call, CNI_INVALID_ENVIRONMENT, "Cannot handle the call: CNI_COMMAND is unknown",
			    call.command);
	exit_code = read_config(&call);
	if (exit_code == 0)
		exit_code = read_fields(&call);
	/* Whatever became of the configuration since the pod was made: a pod that cannot be deleted stays for ever. */
	if (exit_code != 0)
		return is(&call, "DEL") ? 0 : exit_code;
	/* The agent reconciles by itself: there is nothing left behind for GC to collect. */
	if (is(&call, "GC"))
		return 0;
	if (is(&call, "STATUS"))
		return status(&call);
	return handle_container(&call);
}
