/**
 * What a declarative Jenkinsfile may say, as far as ours says it: read first, then run as Jenkins does.
 *
 * JenkinsPipelineUnit of Maven Central knows scripted pipelines alone. Whatever is not in here is an error, as a
 * directive in the wrong place is in Jenkins.
 */
class Declarative {
    static Pipeline read(Closure body, Map<String, Object> names) { Section.filled(new Pipeline(names), body) }
}

/** Something with braces. What stands in them is called on it, and on nothing else. */
abstract class Section {
    final Map<String, Object> names // env, params and what else every part of a Jenkinsfile can read

    Section(Map<String, Object> names) { this.names = names }

    static <T> T filled(T section, Closure body) {
        Closure own = (Closure) body.clone()
        own.delegate = section
        own.resolveStrategy = Closure.DELEGATE_ONLY
        own.call()
        section
    }

    def methodMissing(String name, Object arguments) {
        throw new IllegalArgumentException("${name} cannot stand in ${getClass().simpleName.toLowerCase()}")
    }

    def propertyMissing(String name) {
        if (names.containsKey(name)) return names[name]
        throw new IllegalArgumentException("${name} cannot stand in ${getClass().simpleName.toLowerCase()}")
    }
}

/** What the whole and a stage have in common. */
abstract class Block extends Section {
    Agent agent
    Options options = new Options(names)
    Environment variables = new Environment(names)
    List<Stage> stages = []
    Post after = new Post(names)

    Block(Map<String, Object> names) { super(names) }

    void agent(Closure body) { agent = filled(new Agent(names), body) }
    void options(Closure body) { filled(options, body) }
    void environment(Closure body) { filled(variables, body) }
    void stages(Closure body) { stages = filled(new Stages(names), body).all }
    void post(Closure body) { filled(after, body) }
}

class Pipeline extends Block {
    Pipeline(Map<String, Object> names) { super(names) }
}

class Stages extends Section {
    List<Stage> all = []

    Stages(Map<String, Object> names) { super(names) }

    void stage(String name, Closure body) {
        Stage one = filled(new Stage(names, name), body)
        if ((one.work == null) == one.stages.empty) throw new IllegalArgumentException("${name}: steps, or stages")
        all << one
    }
}

class Stage extends Block {
    final String name
    When condition
    Closure work

    Stage(Map<String, Object> names, String name) {
        super(names)
        this.name = name
    }

    void when(Closure body) { condition = filled(new When(names), body) }
    void steps(Closure body) { work = body }
}

class Agent extends Section {
    String label

    Agent(Map<String, Object> names) { super(names) }

    void label(String name) { label = name }
}

class Options extends Section {
    boolean oneAtATime, timestamps
    String lock
    Map timeout
    Map kept

    Options(Map<String, Object> names) { super(names) }

    void disableConcurrentBuilds() { oneAtATime = true }
    void timestamps() { timestamps = true }
    void timeout(Map limit) { timeout = limit }
    void lock(Map resource) { lock = resource.resource }
    void buildDiscarder(Map strategy) { kept = strategy }
    Map logRotator(Map strategy) { strategy }
}

class Environment extends Section {
    final Map<String, String> said = [:]

    Environment(Map<String, Object> names) { super(names) }

    void setProperty(String name, Object value) { said[name] = value.toString() }
}

/** All conditions of it must hold. */
class When extends Section {
    final List<Closure<Boolean>> all = [] // each is asked with the build

    When(Map<String, Object> names) { super(names) }

    void branch(String name) { all << { build -> build.branch == name } }
    void expression(Closure body) { all << { build -> build.steps(body) as boolean } }
    void not(Closure body) {
        When inner = filled(new When(names), body)
        all << { build -> !inner.holds(build) }
    }

    boolean holds(build) { all.every { it.call(build) } }
}

class Post extends Section {
    final Map<String, Closure> all = [:]

    Post(Map<String, Object> names) { super(names) }

    void always(Closure body) { all.always = body }
    void success(Closure body) { all.success = body }
    void failure(Closure body) { all.failure = body }
    void aborted(Closure body) { all.aborted = body }
}
