import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.nio.channels.FileChannel
import java.nio.channels.FileLock
import java.nio.file.FileSystems
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardCopyOption
import java.nio.file.StandardOpenOption
import java.nio.file.attribute.PosixFilePermissions
import java.util.concurrent.TimeUnit

/** One build of a Jenkins job: its console, its environment, and each step as Jenkins does it. */
class Build {
    static final List<String> WORSE = ['SUCCESS', 'UNSTABLE', 'FAILURE', 'ABORTED']

    final Map plan
    final Path workspace, temporary
    final List<Map<String, String>> environment
    final List<String> hidden = [] // what the console shows as ****
    final List<String> watched = [] // what must be nowhere: the console, a process's arguments
    final Map record = [result: 'SUCCESS', stages: [], asked: [], tests: [:], archived: []]
    private boolean stamped
    private volatile boolean stopping
    private volatile Process running
    Object script // whose steps are called

    Build(Map plan) {
        this.plan = plan
        workspace = Path.of(plan.workspace)
        temporary = Files.createDirectories(Path.of("${plan.workspace}@tmp"))
        environment = [plan.environment + [
            BUILD_NUMBER: "${plan.number}".toString(), JOB_NAME: plan.job, BRANCH_NAME: plan.branch,
            BUILD_TAG: "jenkins-${plan.job}-${plan.number}".toString(), WORKSPACE: plan.workspace,
        ]]
    }

    String getBranch() { plan.branch }
    Map<String, String> getVariables() { environment.inject([:]) { all, one -> all + one } }

    // -- the whole ----------------------------------------------------------------------------------------------------

    void run(Pipeline pipeline) {
        stamped = pipeline.options.timestamps
        if (!(pipeline.agent?.label in plan.labels)) throw new IllegalStateException('no agent has the label')
        def limit = pipeline.options.timeout
        def timer = new Timer(true)
        timer.schedule({ stop('the time is over') } as TimerTask, TimeUnit.valueOf(limit.unit).toMillis(limit.time as long))
        def body = {
            within(pipeline) { pipeline.stages.each { stage(it) } }
            after(pipeline)
        }
        pipeline.options.oneAtATime ? locked("job ${plan.job}", body) : body()
        timer.cancel()
    }

    private void stage(Stage stage) {
        if (record.result in ['FAILURE', 'ABORTED']) {
            told(stage, 'SKIPPED', 'earlier failure')
            return
        }
        try {
            if (stage.condition && !stage.condition.holds(this)) {
                told(stage, 'SKIPPED', 'when')
                return
            }
            say("[Pipeline] { (${stage.name})")
            within(stage) {
                stage.work ? steps(stage.work) : stage.stages.each { this.stage(it) }
            }
        } catch (Throwable error) {
            failed(error)
        }
        if (stage.work) told(stage, record.result, '')
        after(stage)
    }

    private void told(Stage stage, String result, String why) {
        record.stages << [name: stage.name, result: result]
        if (why) say("Stage \"${stage.name}\" skipped due to ${why}")
    }

    private void within(Block block, Closure body) {
        def inner = { with(block.variables.said, body) }
        block.options.lock ? locked("resource ${block.options.lock}", inner) : inner()
    }

    private void after(Block block) {
        def results = [always: true, success: record.result == 'SUCCESS', failure: record.result == 'FAILURE',
                       aborted: record.result == 'ABORTED']
        stopping = false
        block.after.all.each { condition, body ->
            if (!results[condition]) return
            try {
                with(block.variables.said) { steps(body) }
            } catch (Throwable error) {
                failed(error)
            }
        }
    }

    Object steps(Closure body) {
        Closure own = (Closure) body.clone()
        own.delegate = script
        own.resolveStrategy = Closure.DELEGATE_ONLY
        own.call()
    }

    private void failed(Throwable error) {
        say(error instanceof StepFailed || error instanceof Stopped ? error.message : "${error}")
        worsen(error instanceof Stopped || stopping ? 'ABORTED' : 'FAILURE')
    }

    private void worsen(String result) {
        if (WORSE.indexOf(result) > WORSE.indexOf(record.result)) record.result = result
    }

    /** What the red cross on the build's page does. */
    void stop(String why) {
        stopping = true
        say("Aborted: ${why}")
        def process = running
        if (process == null) return
        def all = [process.toHandle(), *process.descendants().iterator().toList()]
        all.each { it.destroy() }
        all.each { one ->
            try {
                one.onExit().get(20, TimeUnit.SECONDS)
            } catch (Exception ignored) {
                one.destroyForcibly()
            }
        }
    }

    // -- the steps ----------------------------------------------------------------------------------------------------

    Object sh(Map said) {
        Path file = Files.createTempFile(temporary, 'script', '.sh')
        file.toFile().text = said.script
        def builder = new ProcessBuilder('sh', '-xe', file.toString()).directory(workspace.toFile())
        builder.environment().clear()
        builder.environment().putAll(variables)
        builder.redirectInput(new File('/dev/null'))
        if (!said.returnStdout) builder.redirectErrorStream(true)
        if (stopping) throw new Stopped('the build was stopped')
        running = builder.start()
        def out = new StringBuffer()
        def threads = [Thread.start { lines(running.inputStream) { said.returnStdout ? out.append("${it}\n") : say(it) } }]
        if (said.returnStdout) threads << Thread.start { lines(running.errorStream) { say(it) } }
        def process = running
        if (watched) threads << Thread.start { watch(process) }
        int code = process.waitFor()
        threads*.join()
        running = null
        Files.delete(file)
        if (stopping) throw new Stopped('the build was stopped')
        if (said.returnStatus) return code
        if (code) throw new StepFailed("script returned exit code ${code}")
        said.returnStdout ? out.toString() : null
    }

    private static void lines(InputStream stream, Closure each) { stream.eachLine('UTF-8') { String line -> each(line) } }

    private void watch(Process process) {
        while (process.isAlive()) {
            process.descendants().each { one ->
                def arguments = new File("/proc/${one.pid()}/cmdline")
                try {
                    found("the arguments of ${one.pid()}", arguments.text)
                } catch (IOException ignored) {
                    // it has ended
                }
            }
            sleep(50)
        }
    }

    private void found(String where, String text) {
        if (watched.any { text.contains(it) }) new File(plan.leaked) << "${where}\n"
    }

    /** Write a line of the console. */
    void say(String line) {
        found('the console', line)
        hidden.each { line = line.replace(it, '****') }
        synchronized (System.out) {
            println((stamped ? "[${new Date().format("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", TimeZone.getTimeZone('UTC'))}] " : '') + line)
            System.out.flush()
        }
    }

    Object with(Map<String, String> more, Closure body) {
        environment << more
        try {
            body()
        } finally {
            environment.remove(environment.size() - 1)
        }
    }

    Object withEnv(List<String> said, Closure body) { with(said.collectEntries { it.toString().split('=', 2) as List }, body) }

    Object withCredentials(List<Map> bindings, Closure body) {
        def bound = [:], before = hidden.size(), folder = Files.createTempDirectory(temporary, 'secretFiles')
        try {
            bindings.each { one ->
                def known = plan.credentials[one.credentialsId]
                if (known?.kind != one.kind) throw new StepFailed("Could not find credentials entry with ID '${one.credentialsId}'")
                String secret = known.secret
                watched.addAll(secret.readLines().findAll { it.size() > 15 && !it.startsWith('-----') })
                if (one.kind == 'string') {
                    hidden << secret
                    bound[one.variable] = secret
                } else {
                    def mode = PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString('rw-------'))
                    def file = Files.createFile(folder.resolve(one.credentialsId), mode)
                    file.toFile().text = secret
                    hidden << file.toString()
                    bound[one.variable] = file.toString()
                }
            }
            with(bound, body)
        } finally {
            folder.toFile().deleteDir()
            hidden.subList(before, hidden.size()).clear()
        }
    }

    /** The question on the build's page; the answer is in a file, as {"by": "somebody", "says": "approve" or "abort"}. */
    void input(Map said) {
        say("Input requested: ${said.message} (${said.ok} or Abort)")
        def file = new File(plan.answer)
        while (true) {
            if (stopping) throw new Stopped('the build was stopped')
            sleep(100)
            if (!file.exists()) continue
            def answer = new JsonSlurper().parse(file)
            file.delete()
            if (said.submitter && !(answer.by in plan.groups[said.submitter])) {
                say("${answer.by} may not answer")
                continue
            }
            record.asked << [message: said.message] + answer
            say("${answer.by} says ${answer.says}")
            if (answer.says != 'approve') throw new Stopped("Rejected by ${answer.by}")
            return
        }
    }

    void junit(Map said) {
        def files = matching(said.testResults)
        if (!files && !said.allowEmptyResults) throw new StepFailed('No test report files were found. Configuration error?')
        files.each { file ->
            def suite = new XmlSlurper().parse(file.toFile()).testsuite
            def count = { name -> suite.collect { it["@${name}"].toInteger() }.sum() }
            record.tests[suite[0].@name.toString()] = [tests: count('tests'), failures: count('failures') + count('errors')]
        }
        if (record.tests.values().any { it.failures }) worsen('UNSTABLE')
    }

    void archiveArtifacts(Map said) {
        def files = matching(said.artifacts)
        if (!files && !said.allowEmptyArchive) throw new StepFailed('No artifacts found that match the file pattern')
        files.each { file ->
            def kept = Path.of(plan.archive).resolve(workspace.relativize(file))
            Files.createDirectories(kept.parent)
            Files.copy(file, kept, StandardCopyOption.REPLACE_EXISTING)
            record.archived << kept.toString()
        }
    }

    private List<Path> matching(String pattern) {
        def folder = workspace.resolve(pattern).parent
        if (!Files.isDirectory(folder)) return []
        def matcher = FileSystems.default.getPathMatcher("glob:${workspace.resolve(pattern)}")
        Files.list(folder).iterator().findAll { matcher.matches(it) }.sort()
    }

    /** One holder at a time among all builds on this machine, held by the kernel: who is killed holds nothing. */
    private void locked(String name, Closure body) {
        Path file = Files.createDirectories(Path.of(plan.locks)).resolve(name.replace('/', '_'))
        FileChannel channel = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.WRITE)
        try {
            FileLock held = channel.tryLock()
            if (held == null) say("[${name}] is taken, waiting")
            while (held == null) {
                if (stopping) throw new Stopped('the build was stopped')
                sleep(200)
                held = channel.tryLock()
            }
            body()
        } finally {
            channel.close()
        }
    }

    void end() {
        say("Finished: ${record.result}")
        new File(plan.record).text = JsonOutput.toJson(record)
    }
}

class StepFailed extends Exception {
    StepFailed(String message) { super(message) }
}

class Stopped extends Exception {
    Stopped(String message) { super(message) }
}
