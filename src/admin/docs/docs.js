// Renders /openapi.json. Everything goes into the page as text, never as markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.allOf) return schema.allOf.map(typeOf).filter(Boolean).join(" & ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.type === "array") return `[${typeOf(schema.items)}]`;
  return schema.format ? `${schema.type} (${schema.format})` : schema.type ?? "";
}

function table(rows) {
  const head = element("tr", ...["Name", "Type", "", ""].map((text) => element("th", text)));
  const body = rows.map((row) => element("tr", ...row.map((text, at) => element("td", at === 0 ? element("code", text) : text))));
  return element("table", element("thead", head), element("tbody", ...body));
}

function fieldsOf(schema, spec, seen = new Set()) {
  const name = schema?.$ref?.split("/").pop();
  if (name === undefined || seen.has(name)) return [];
  seen.add(name);
  const known = spec.components.schemas[name];
  if (!known?.properties) return [element("p", element("code", name), ` ${typeOf(known)}`)];
  const rows = Object.entries(known.properties).map(([field, one]) => [
    field, typeOf(one), known.required?.includes(field) ? "required" : "", one.description ?? "",
  ]);
  const inner = Object.values(known.properties).flatMap((one) => {
    const refs = [one, one.items, ...(one.allOf ?? [])].filter((part) => part?.$ref);
    return refs.flatMap((part) => fieldsOf(part, spec, seen));
  });
  return [element("h4", name), table(rows), ...inner];
}

function operation(path, method, one, spec) {
  const title = element("summary", element("code", `${method.toUpperCase()} ${path}`), ` ${one.summary ?? ""} `);
  const access = element("span", one["x-access"] ?? "");
  access.className = "access";
  title.append(access);
  const made = element("details", title);
  made.dataset.text = `${method} ${path} ${one.operationId} ${one.summary ?? ""}`.toLowerCase();
  made.id = one.operationId;
  if (one.description) made.append(element("p", one.description));
  if (one.parameters?.length) {
    made.append(element("h3", "Parameters"), table(one.parameters.map((each) => [
      each.name, typeOf(each.schema), `${each.in}${each.required ? ", required" : ""}`, each.description ?? "",
    ])));
  }
  const body = Object.values(one.requestBody?.content ?? {})[0];
  if (body) made.append(element("h3", "Body"), ...fieldsOf(body.schema, spec));
  for (const [status, answer] of Object.entries(one.responses ?? {})) {
    const content = Object.values(answer.content ?? {})[0];
    made.append(element("h3", `${status === "default" ? "Problem" : status}`), ...fieldsOf(content?.schema, spec));
  }
  return made;
}

async function render() {
  const main = document.getElementById("operations");
  const spec = await (await fetch("/openapi.json")).json();
  const byTag = new Map();
  for (const [path, methods] of Object.entries(spec.paths)) {
    for (const method of METHODS.filter((name) => methods[name])) {
      const one = methods[method];
      const tag = one.tags?.[0] ?? "other";
      if (!byTag.has(tag)) byTag.set(tag, []);
      byTag.get(tag).push(operation(path, method, one, spec));
    }
  }
  main.replaceChildren(...[...byTag].flatMap(([tag, all]) => [element("h2", tag.replaceAll("_", " ")), ...all]));
  document.getElementById("find").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const one of main.querySelectorAll("details")) one.hidden = !one.dataset.text.includes(wanted);
  });
}

render().catch((error) => {
  document.getElementById("operations").replaceChildren(element("p", `The document could not be loaded: ${error.message}`));
});
