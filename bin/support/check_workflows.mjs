// Reads the given GitHub workflows with GitHub's own parser, and prints what it rejects. `rake lint:workflows` installs
// the parser, the npm package @actions/workflow-parser, in tmp/workflows.
import { register } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

// The package imports JSON without the attribute that Node requires.
const hook = `export const load = (url, context, next) =>
  next(url, url.endsWith(".json") ? { ...context, importAttributes: { type: "json" } } : context);`;
register(`data:text/javascript,${encodeURIComponent(hook)}`);

const [directory, ...paths] = process.argv.slice(2);
const entry = `${directory}/node_modules/@actions/workflow-parser/dist/index.js`;
const { parseWorkflow, convertWorkflowTemplate, NoOperationTraceWriter } = await import(pathToFileURL(entry));

const problems = [];
for (const path of paths) {
  const parsed = parseWorkflow({ name: path, content: readFileSync(path, "utf8") }, new NoOperationTraceWriter());
  if (parsed.value) await convertWorkflowTemplate(parsed.context, parsed.value);
  problems.push(...parsed.context.errors.getErrors().map((error) => error.message));
}
problems.forEach((problem) => console.error(problem));
process.exitCode = problems.length === 0 ? 0 : 1;
