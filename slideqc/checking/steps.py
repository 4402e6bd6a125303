"""The steps of the workshop, numbered as in the README, and their hints. No hint is the whole answer."""

from typing import NamedTuple

TASKS = ("load_image", "tissue_segmentation_simple", "identifyBlurryRegions", "check_blurry", "blurry_action")
DEFAULTS = {"image_work_size": "1.25x", "blur_work_size": "5x", "blur_radius": 7, "blur_threshold": 0.05,
            "blur_max": 0.1}


class Step(NamedTuple):
    """A step of the workshop."""

    title: str
    files: str              # the parameter that names the slide, or the slides
    solution: str
    hints: dict[str, str]   # by the idea that the hint is about, in the order of the README
    then: str               # what to do next
    server: bool = False    # does the script send flow runs to a server?


STEPS = {
    1: Step("pipeline.py becomes a Prefect flow", "file_name", "solutions/pipeline_prefect.py", {
        "import": "What a script uses, it imports: `import prefect` for prefect.context, and Flow, task, Parameter and "
                  "case from prefect. A copy of pipeline.py brings all else along.",
        "task": "Each step of the pipeline is a task: @task above the function, or name = task(name) for one that you "
                "import. A task keeps the name of its function.",
        "flow": "define_flow() opens `with Flow(\"…\") as flow:`, calls the tasks inside that block, where nothing "
                "runs yet, and ends with `return flow`.",
        "parameter": "What may differ from run to run is a Parameter, named as in pipeline.py and made inside the "
                     "flow: colour = Parameter(\"colour\", default=\"red\"). Hand the Parameter to the tasks, "
                     "never its value.",
        "order": "Prefect knows who waits for whom from the results that are handed on. The blur step needs a file of "
                 "the tissue step, and no result, so say so: upstream_tasks=[…].",
        "case": "While the flow is built there are no results to ask about with `if`. `with case(a_task, True):` "
                "holds back the tasks called inside until that task has answered, and skips them if it says False.",
        "logger": "Inside the task, while it runs, prefect.context.get(\"logger\") is the logger whose lines a server "
                  "collects.",
        "memory": "A task may run in another process than the next one. It hands on what it returns and what it "
                  "saves, and nothing that it does to the objects it was given.",
        "run": "define_flow() only builds. The loop over the files calls flow.run(file_name=…), in main() or under "
               "`if __name__ == \"__main__\":`, so that the file can be imported without running.",
        "script": "main() stays as it is but for its loop: it takes the flags, calls flow.run() with the file, the "
                  "output and the five parameters that check_slide() got, and ends with run.finish(). Run the script "
                  "with python to see where it stops.",
        "result": "The steps compute what they computed in pipeline.py; only who calls them changes. Compare the "
                  "arguments that each task gets with check_slide() in pipeline.py.",
        "end": "Run the script itself with python: where it hangs, Ctrl-C shows the line; where it crashes, look at "
               "what it did last. If it is only slow, --timeout gives it more seconds.",
    }, "step 2: copy {mine} to {server}, send its flow to a server, then: python check.py 2 {server}"),
    2: Step("the flow goes to a server", "file_name", "solutions/pipeline_prefect_server.py", {
        "register": "flow.register(project_name=…) tells the server about the flow, and returns the id that it has "
                    "there. Nothing runs yet.",
        "project": "The server keeps flows in projects, and a project has to be there before a flow is: "
                   "`prefect create project`, once, on each server.",
        "once": "Each call of flow.register() makes a new version of the flow, with an id of its own, and archives the "
                "one before. One version will do for any number of runs.",
        "client": "prefect.Client() is the line to the server: create_flow_run takes the flow's id, a name for the "
                  "run, and the parameters of this one file. It stands where flow.run() stood.",
        "parameters": "A run knows nothing of your script but its parameters: all that flow.run() was given, as text, "
                      "numbers or lists, with paths that hold from any folder.",
        "module": "The agent's process loads the flow, and looks for its modules in the working folder. "
                  "flow.run_config = LocalRun(working_dir=…), from prefect.run_configs, set before the flow is "
                  "registered, says which folder that is.",
        "agent": "The server only keeps the books. Runs stay Scheduled until an agent, started in another terminal, "
                 "picks them up, and an agent takes only runs whose labels it has, each of them.",
        "wait": "create_flow_run() returns at once: when your loop is done, nothing is checked yet. "
                "servers.print_address() says where the runs can be watched; servers.wait_for_runs(), for --wait, "
                "waits, and makes the table.",
        "server": "`python -m workshop_server`, in a terminal of its own, is the server, and `prefect backend server` "
                  "tells Prefect to use it. Its address is in Prefect's settings, and in no script.",
        "script": "main() stays as it is but for its loop and its end: it takes the flags, registers the flow, asks "
                  "for the runs, and returns what servers.print_address() or servers.wait_for_runs() gives. Run the "
                  "script with python to see where it stops.",
    }, "step 3: copy your script of step 1 to {mapped}, map its flow, then: python check.py 3 {mapped}", True),
    3: Step("the flow is mapped over the slides", "file_names", "solutions/pipeline_prefect_parallel.py", {
        "files": "The loop over the files goes: the flow has one Parameter, file_names, and is given the whole list.",
        "map": "task.map(…) makes one copy of the task for each element of what it is given. Once a step is mapped, "
               "each step after it is.",
        "unmapped": ".map takes every argument apart, even a text into its letters. What is the same for all slides "
                    "is wrapped in unmapped(…).",
        "order": ".map takes upstream_tasks=[…] too: the blur step of each slide waits for that slide's tissue step.",
        "case": "A case around .map(…) asks once about all slides. Move the case into a small function, for one "
                "slide, that calls the tasks without .map, and let apply_map call it for each slide.",
        "run": "One call of flow.run(file_names=[…]) is enough for all slides.",
    }, "step 4: give the flow an executor, then: python check.py 4 {mine}"),
    4: Step("the mapped flow runs on Dask", "file_names", "solutions/pipeline_prefect_parallel.py", {
        "executors": "The executors come from prefect.executors: LocalExecutor, LocalDaskExecutor, DaskExecutor.",
        "executor": "flow.executor is where the tasks run; set it on the flow before flow.run().",
        "instance": "An executor is an object with settings of its own. The class's name alone is not one yet: call "
                    "it, and choose threads or processes as you do.",
        "memory": "Processes share no memory: each gets a copy of what a task is given. What a task changes in its "
                  "copy, or keeps in a global variable, the next task never sees.",
        "run": "A process may import your script anew. What must happen only once stands under "
               "`if __name__ == \"__main__\":`.",
    }, "step 5: copy {mine} to {server}, send its flow to a server, then: python check.py 5 {server}"),
    5: Step("the mapped flow goes to a server", "file_names", "solutions/pipeline_prefect_parallel_server.py", {
        "register": "As in step 2: register, then ask for a run. The executor travels with the flow, so set it before "
                    "the flow is registered.",
        "parameters": "A run knows nothing of your script but its parameters: all that flow.run() was given. "
                      "file_names is a list here too: a parameter may be anything that JSON can say.",
        "files": "The list of files is one parameter, so one flow run does for all slides: no loop.",
    }, "the end of the workshop", True),
}


def hint(step: int, idea: str) -> tuple[int, int, str]:
    """The hint about an idea: its step, its number there, its text. If the step has none, another step's."""
    for number in {2: (2, 1, 4), 5: (5, 2, 3, 1, 4)}.get(step, (step, 3, 1, 4)):
        if idea in (hints := STEPS[number].hints):
            return number, list(hints).index(idea) + 1, hints[idea]
    raise KeyError(idea)
