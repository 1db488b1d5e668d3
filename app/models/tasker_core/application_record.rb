# frozen_string_literal: true

module TaskerCore
  # The gem's rows, on the application's own connection, or on that of the database that `config.tasker_core.connects_to`
  # names. Read only: the SQL functions are the only writers.
  class ApplicationRecord < ActiveRecord::Base
    self.abstract_class = true
    # The host's settings of Active Record are about its own tables.
    self.strict_loading_by_default = false
    self.primary_key_prefix_type = nil
    self.inheritance_column = nil
    self.implicit_order_column = nil

    # @yieldparam connection [ActiveRecord::ConnectionAdapters::AbstractAdapter] the application's, in its transaction
    def self.on_connection(&block)
      respond_to?(:with_connection) ? with_connection(&block) : yield(connection)
    rescue ActiveRecord::ConnectionNotEstablished, ActiveRecord::NoDatabaseError => e
      raise DatabaseError.new("the database cannot be used: #{e.message}")
    end

    def readonly? = true
  end

  ActiveSupport.run_load_hooks(:tasker_core_record, ApplicationRecord)
end
