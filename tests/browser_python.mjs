// Runs a Python program (standard input) in Pyodide, the Python of browsers, and prints
// what it returns. Arguments: the folder of the npm package, and that of the project.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [pyodideFolder, project] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(join(pyodideFolder, "pyodide.mjs")));
const python = await loadPyodide();
python.FS.mkdirTree("/project/p2plab");
const rooms = { root: join(project, "p2plab") };
python.FS.mount(python.FS.filesystems.NODEFS, rooms, "/project/p2plab");
python.runPython("import sys; sys.path.insert(0, '/project'); sys.dont_write_bytecode = True");
console.log(python.runPython(readFileSync(0, "utf8")));
