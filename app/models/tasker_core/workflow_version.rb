# frozen_string_literal: true

module TaskerCore
  # A registered version of a workflow. Immutable.
  class WorkflowVersion < ApplicationRecord
    self.table_name = "tasker_workflow_versions"

    has_many :tasks, class_name: "TaskerCore::Task", inverse_of: :workflow_version

    STEPS = <<~SQL
      select name, position, dependencies, handler
      from tasker_step_definitions
      where workflow_version_id = $1::bigint
      order by position
    SQL
    STEP_COUNT = "(select count(*) from tasker_step_definitions where workflow_version_id = id) as step_count"
    private_constant :STEPS, :STEP_COUNT

    # Omits the definition, which may be large: {#definition} reads it when needed.
    # @api private
    scope :without_definition, -> { reselect(column_names - ["definition"]) }

    # Has the description and the number of steps instead of the definition.
    # @api private
    scope :described, -> { without_definition.select("definition->>'description' as description", STEP_COUNT) }

    # @param versions [ActiveRecord::Relation]
    # @return [Array<WorkflowVersion>] without their definitions
    def self.list(versions) = load_without(:definition, versions.described, "the versions of workflows")

    # @return [Hash{String => Object}]
    # @raise [UnreadableError] if the database cannot read it
    def definition
      return super if has_attribute?(:definition)

      @definition ||= read_column(:definition, "the definition of #{title}")
    end

    # @return [String, nil]
    # @raise [UnreadableError] if the database cannot read it
    def description = has_attribute?(:description) ? self[:description] : definition["description"]

    # @return [String] namespace, name and version
    def title = "#{namespace}.#{name} #{version}"

    # @return [Array<Hash{String => Object}>] name, position, dependencies (positions) and handler of each step, by
    #   position; every parent comes first
    def steps = @steps ||= Postgres::Rows.read(STEPS, id)

    # @return [Integer] number of steps
    def step_count = has_attribute?(:step_count) ? self[:step_count] : steps.size

    # @return [Hash{String => Integer}] by step name
    def positions = steps.to_h { |step| step.values_at("name", "position") }

    # @return [Hash{Integer => String}] step names by position
    def names = positions.invert
  end
end
