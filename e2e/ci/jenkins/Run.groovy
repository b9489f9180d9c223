import com.lesfurets.jenkins.unit.PipelineTestHelper
import groovy.json.JsonSlurper

/** `Run.groovy PLAN`: the Jenkinsfile of a workspace, by JenkinsPipelineUnit, with every step done for real. */
def plan = new JsonSlurper().parse(new File(args[0]))
def build = new Build(plan)
def stop = { build.stop('by a person') } as sun.misc.SignalHandler
sun.misc.Signal.handle(new sun.misc.Signal('TERM'), stop)

def helper = new PipelineTestHelper(
    scriptRoots: [plan.workspace] as String[], baseScriptRoot: plan.workspace, scriptExtension: 'jenkins',
    baseClassloader: getClass().classLoader, imports: [:],
)
helper.init()
helper.allowedMethodCallbacks.clear() // no step is known but these
def step = { String name, List<Class> takes, Closure does -> helper.registerAllowedMethod(name, takes, does) }
def pipeline = null
def names = [:]
step('pipeline', [Closure]) { Closure body -> pipeline = Declarative.read(body, names) }
step('sh', [Map]) { Map said -> build.sh(said) }
step('sh', [CharSequence]) { said -> build.sh(script: said.toString()) }
step('echo', [CharSequence]) { said -> build.say(said.toString()) }
step('withEnv', [List, Closure]) { List said, Closure body -> build.withEnv(said, body) }
step('withCredentials', [List, Closure]) { List said, Closure body -> build.withCredentials(said, body) }
step('string', [Map]) { Map said -> said + [kind: 'string'] }
step('file', [Map]) { Map said -> said + [kind: 'file'] }
step('readFile', [CharSequence]) { said -> build.workspace.resolve(said.toString()).toFile().text }
step('input', [Map]) { Map said -> build.input(said) }
step('junit', [Map]) { Map said -> build.junit(said) }
step('archiveArtifacts', [Map]) { Map said -> build.archiveArtifacts(said) }

names.env = new Variables(build)
try {
    build.script = helper.loadScript(plan.jenkinsfile, new Binding(names))
    helper.runScript(build.script)
    if (pipeline == null) throw new IllegalArgumentException("${plan.jenkinsfile} says no pipeline")
    if (!plan.parse) build.run(pipeline)
} catch (Throwable error) {
    build.say("${error}")
    build.record.result = error instanceof Stopped ? 'ABORTED' : 'FAILURE'
}
build.end()
System.exit(build.record.result == 'SUCCESS' ? 0 : 1)

class Variables {
    private final Build build

    Variables(Build build) { this.build = build }

    def propertyMissing(String name) { build.variables[name] }
}
