// The interactive page of the API: asks, shows the answer, and lists what can be asked.
const at = (id) => document.getElementById(id);

const EXAMPLES = {
  "Projects and their flows": `{
  project(order_by: {name: asc}) {
    name
    flows(where: {archived: {_eq: false}}) { name version }
  }
}`,
  "The last ten flow runs": `{
  flow_run(limit: 10, order_by: {created: desc}) {
    id
    name
    state
    start_time
    end_time
    flow { name version }
  }
}`,
  "Task runs that failed": `{
  task_run(where: {state: {_eq: "Failed"}}, limit: 20, order_by: {end_time: desc}) {
    name
    map_index
    state_message
    task { name }
    flow_run { id name }
  }
}`,
  "Errors in the logs": `{
  log(where: {level: {_in: ["ERROR", "CRITICAL"]}}, limit: 20, order_by: {timestamp: desc}) {
    timestamp
    level
    message
    flow_run { name }
  }
}`,
  "Agents": `{
  agent(order_by: {last_queried: desc}) { name type labels last_queried core_version }
}`,
  "Create a project": [`mutation ($input: create_project_input!) {
  create_project(input: $input) { id }
}`, { input: { name: "Image QC" } }],
  "Run a flow": [`mutation ($input: create_flow_run_input!) {
  create_flow_run(input: $input) { id }
}`, { input: { flow_id: "the id of a flow", parameters: {} } }],
};

// Types inside types, as deep as this API nests them.
const TYPE = "kind name ofType { kind name ofType { kind name ofType { kind name } } }";
const SCHEMA = `{ __schema { queryType { name } mutationType { name } types {
  kind name description
  fields { name description args { name type { ${TYPE} } } type { ${TYPE} } }
  inputFields { name type { ${TYPE} } }
  enumValues { name }
} } }`;

async function ask(query, variables) {
  const answer = await fetch("/graphql", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ query, variables }),
  });
  if (answer.status === 401) location.reload();
  return answer.json();
}

async function send() {
  let variables = null;
  at("variables").removeAttribute("aria-invalid");
  try {
    variables = at("variables").value.trim() ? JSON.parse(at("variables").value) : null;
  } catch (error) {
    at("variables").setAttribute("aria-invalid", "true");
    at("result").textContent = `The variables are not JSON: ${error.message}`;
    return;
  }
  const start = performance.now();
  at("took").textContent = "…";
  try {
    at("result").textContent = JSON.stringify(await ask(at("query").value, variables), null, 2);
    at("took").textContent = `in ${Math.round(performance.now() - start)} ms`;
  } catch (error) {
    at("took").textContent = "";
    at("result").textContent = `No answer: ${error.message}`;
  }
}

function words(type) {
  if (type.kind === "NON_NULL") return `${words(type.ofType)}!`;
  if (type.kind === "LIST") return type.ofType ? `[${words(type.ofType)}]` : "[…]";
  return type.name ?? "…";
}

function element(name, text, parent, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  parent?.append(made);
  return made;
}

function describe(type, box) {
  const list = element("ul", "", box);
  if (type.description) element("li", type.description, list, "more");
  for (const field of type.fields ?? type.inputFields ?? type.enumValues ?? []) {
    const args = field.args?.length ? `(${field.args.map((arg) => `${arg.name}: ${words(arg.type)}`).join(", ")})` : "";
    const item = element("li", `${field.name}${args}${field.type ? `: ${words(field.type)}` : ""}`, list);
    if (field.description) element("div", field.description, item, "more");
  }
}

function list(types, wanted) {
  const box = at("types");
  box.replaceChildren();
  const found = types.filter((type) => !wanted || [type.name, ...(type.fields ?? type.inputFields ?? [])
    .map((field) => field.name)].some((name) => name.toLowerCase().includes(wanted)));
  for (const type of found) {
    const details = element("details", "", box);
    element("summary", `${type.name}`, details);
    details.addEventListener("toggle", () => details.children.length > 1 || describe(type, details));
  }
  if (!found.length) element("p", "Nothing has such a name.", box, "empty");
}

async function schema() {
  const answer = await ask(SCHEMA, null);
  if (!answer.data) {
    element("p", answer.errors?.[0]?.message ?? "The schema cannot be read.", at("types"), "error");
    return;
  }
  const { types, queryType, mutationType } = answer.data.__schema;
  const first = [queryType?.name, mutationType?.name];
  const rank = (type) => (first.includes(type.name) ? first.indexOf(type.name) : 2);
  const known = types.filter((type) => !type.name.startsWith("__"))
    .sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
  list(known, "");
  at("find").addEventListener("input", () => list(known, at("find").value.trim().toLowerCase()));
}

for (const name of Object.keys(EXAMPLES)) element("option", name, at("examples")).value = name;
function choose(name) {
  const [query, variables] = [EXAMPLES[name]].flat();
  at("query").value = query;
  at("variables").value = variables ? JSON.stringify(variables, null, 2) : "";
}
choose(Object.keys(EXAMPLES)[1]);
at("examples").addEventListener("change", () => at("examples").value && choose(at("examples").value));
at("send").addEventListener("click", send);
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.matches("textarea")) {
    event.preventDefault();
    send();
  }
});
schema();
