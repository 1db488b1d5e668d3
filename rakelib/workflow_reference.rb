# frozen_string_literal: true

require "yard"

# Generates the reference in docs/workflows.md: the methods of a workflow class from their YARD comments, the keys from
# the comments above them in the reader of definitions, and the keys of `retry` from the settings with the same names.
class WorkflowReference
  ROOT = File.expand_path("..", __dir__)
  DOCUMENT = File.join(ROOT, "docs/workflows.md")
  MARKERS = ["<!-- generated: begin -->\n", "<!-- generated: end -->\n"].freeze
  READER = "ext/orchestrator/src/workflow/definition.rs"
  CLASS_WORDS = { "TaskerCore::Workflow" => "lib/tasker_core/workflow.rb",
                  "TaskerCore::Events::Declarations" => "lib/tasker_core/events/declarations.rb",
                  "TaskerCore::Workflows::Creatable" => "lib/tasker_core/workflows/creatable.rb" }.freeze
  CONTEXT = { "TaskerCore::StepContext" => "lib/tasker_core/step_context.rb" }.freeze

  LEFT_OUT = %i[initialize inspect as_json to_json ==].freeze

  # @param settings [Array<Hash>] those of TaskerCore::Configuration#describe
  def initialize(settings)
    @settings = settings
  end

  # @return [String] the document with the current reference
  def document
    text = File.read(DOCUMENT)
    before, rest = text.split(MARKERS.first, 2)
    _, after = rest.split(MARKERS.last, 2)
    [before, MARKERS.first, reference, MARKERS.last, after].join
  end

  # @return [Array<Array(String, String, String)>] key, allowed values and meaning
  def keys(list)
    body = File.read(File.join(ROOT, READER))[/^const #{list}: .*?\[\n(.*?)^\];/m, 1]
    body.scan(%r{((?:^ *// .*\n)+) *"(\w+)",}).map do |comment, key|
      [key, *comment.scan(%r{// (.*)}).join(" ").split("; ", 2)]
    end
  end

  private

  def reference
    [
      "\n### Methods of the class\n\n", table(%w[method meaning], words(CLASS_WORDS, of_class: true)),
      "\n### Options of `set`\n\n", table(%w[option type meaning], options),
      "\n### Keys of a workflow\n\n", table(%w[key allowed meaning], keys("WORKFLOW_KEYS")),
      "\n### Keys of a step\n\n", table(%w[key allowed meaning], keys("STEP_KEYS")),
      "\n### Keys of `retry`\n\n", table(%w[key default allowed meaning], retry_keys),
      "\n### Methods of the context\n\n", table(%w[method meaning], words(CONTEXT, of_class: false)), "\n"
    ].join
  end

  def table(head, rows)
    lines = rows.map { |name, *cells| "| #{["`#{name}`", *cells].join(' | ')} |\n" }
    "| #{head.join(' | ')} |\n#{'|---' * head.size}|\n#{lines.join}"
  end

  def retry_keys
    of_retry = @settings.select { |setting| setting[:path].start_with?("retry.") }
    of_retry.map do |setting|
      [setting[:path].delete_prefix("retry."), "`#{setting[:written]}`", setting[:allowed], setting[:reason]]
    end
  end

  def options
    creatable = parsed("TaskerCore::Workflows::Creatable", CLASS_WORDS.fetch("TaskerCore::Workflows::Creatable"))
    pairs = creatable.meths.find { |method| method.name == :set }.tags(:option).map(&:pair)
    pairs.map { |pair| [pair.name.delete_prefix(":"), pair.types.join(", "), one_line(pair.text.to_s)] }
  end

  def parsed(name, path)
    YARD::Registry.clear
    YARD.parse(File.join(ROOT, path), [], YARD::Logger::ERROR)
    YARD::Registry.at(name)
  end

  def words(files, of_class:)
    files.flat_map do |name, path|
      object = parsed(name, path)
      object.meths(inherited: false).select { |method| described?(method, object, of_class) }
            .sort_by(&:line).map { |method| [signature(method), meaning(method)] }
    end
  end

  def described?(method, object, of_class)
    method.visibility == :public && method.tag(:api).nil? && !method.docstring.blank? &&
      (object.type == :module || method.scope == (of_class ? :class : :instance)) && !LEFT_OUT.include?(method.name)
  end

  def signature(method)
    parameters = method.parameters.reject { |name, _| name.start_with?("&") }
    list = parameters.map { |name, default| [name, default].compact.join(name.end_with?(":") ? " " : " = ") }
    list.empty? ? method.name.to_s : "#{method.name}(#{list.join(', ')})"
  end

  # The description, or that of the return value if there is no other.
  def meaning(method)
    text = method.docstring.empty? ? method.tag(:return)&.then { |tag| "#{kinds(tag)}#{tag.text}" } : method.docstring
    errors = method.tags(:raise).map { |tag| "raises `#{tag.types&.first}`#{" #{tag.text}" if tag.text.present?}" }
    [one_line(text.to_s).delete_suffix("."), *errors].reject(&:empty?).join("; ")
  end

  def one_line(text) = text.gsub(/\{(?:.*#)?(\S+?)\}/, '`\1`').gsub(/\s+/, " ").strip.gsub("|", "\\|")

  def kinds(tag) = tag.text.present? ? "" : "#{tag.types.join(', ')} "
end
